# README.md shows readme.cpp as it stands.
file(READ ${CMAKE_CURRENT_LIST_DIR}/readme.cpp program)
file(READ ${CMAKE_CURRENT_LIST_DIR}/../README.md page)
string(FIND "${page}" "${program}" at)
if(at EQUAL -1)
  message(FATAL_ERROR "README.md does not show examples/readme.cpp as it is now: copy it there")
endif()
