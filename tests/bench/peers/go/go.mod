module go-bench

go 1.19
