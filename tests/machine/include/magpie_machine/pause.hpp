#pragma once

// Included before all else (see CMakeLists.txt): who spins says so by this instruction, whose time has to pass
// on the simulated core.

extern "C" void magpie_machine_pause() noexcept;

#define __builtin_ia32_pause magpie_machine_pause
