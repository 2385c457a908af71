// The benchmark's Go driver: `go-bench WORKLOAD [--workers N] [--n N] [--reps R] [--seconds S]`
// prints one JSON line, `go-bench --list` all workloads: name, n, seconds, once or repeated.
// `go-bench serve NAME [--workers N]` serves until standard input ends, `go-bench serve --list` prints what.
package main

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
)

func registry() []workload {
	var all []workload
	all = append(all, spawningWorkloads()...)
	all = append(all, wakingWorkloads()...)
	all = append(all, timingWorkloads()...)
	all = append(all, memoryWorkloads()...)
	all = append(all, shardingWorkloads()...)
	return all
}

func main() {
	if len(os.Args) < 2 {
		fail("name a workload, or --list")
	}
	name := os.Args[1]
	if name == "--list" {
		for _, w := range registry() {
			times := "repeated"
			if w.once {
				times = "once"
			}
			fmt.Println(w.name, w.n, w.seconds, times)
		}
		return
	}
	if name == "serve" {
		runServer(os.Args[2:])
		return
	}
	w := find(name)
	o := options{workers: 2, n: w.n, reps: 5, seconds: w.seconds}
	rest := os.Args[2:]
	for ; len(rest) >= 2; rest = rest[2:] {
		key, text := rest[0], rest[1]
		value, err := strconv.ParseFloat(text, 64)
		if err != nil || value <= 0 {
			fail(key + " needs a number above 0, not '" + text + "'")
		}
		switch key {
		case "--workers":
			o.workers = int(value)
		case "--n":
			o.n = int(value)
		case "--reps":
			o.reps = int(value)
		case "--seconds":
			o.seconds = value
		default:
			fail("no option '" + key + "'")
		}
	}
	if len(rest) == 1 {
		fail(rest[0] + " needs a value")
	}
	runtime.GOMAXPROCS(o.workers)
	fmt.Println(w.measure(o))
}

func runServer(args []string) {
	if len(args) == 0 {
		fail("serve needs a name, or --list")
	}
	name, workers := args[0], 2
	if name == "--list" {
		for _, s := range servers() {
			fmt.Println(s.name)
		}
		return
	}
	if len(args) > 1 {
		count, err := 0, error(nil)
		if len(args) == 3 && args[1] == "--workers" {
			count, err = strconv.Atoi(args[2])
		}
		if err != nil || count <= 0 {
			fail("serve takes --workers and a number above 0 beside the name")
		}
		workers = count
	}
	for _, s := range servers() {
		if s.name == name {
			runtime.GOMAXPROCS(workers)
			serve(s, workers)
			return
		}
	}
	fail("no server '" + name + "'; serve --list shows them")
}

func find(name string) workload {
	for _, w := range registry() {
		if w.name == name {
			return w
		}
	}
	fail("no workload '" + name + "'; --list shows them")
	panic("unreachable")
}

func fail(problem string) {
	fmt.Fprintln(os.Stderr, "go-bench: "+problem)
	fmt.Fprintln(os.Stderr,
		"usage: go-bench WORKLOAD [--workers N] [--n N] [--reps R] [--seconds S] | --list\n"+
			"       go-bench serve NAME [--workers N] | serve --list")
	os.Exit(2)
}
