package main

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"runtime"
	"sort"
	"strings"
	"syscall"
	"time"
	"unsafe"
)

type options struct {
	workers, n, reps int
	seconds          float64
}

// sample is one repetition: its operations, what they took, and what else the row measures.
type sample struct {
	ops                 int
	seconds, cpuSeconds float64
	extra               map[string]float64
}

// figure is what a row is judged by, lower is better.
type figure struct{ field, unit string }

var cpuPerOp = figure{"cpu_ns_per_op", "CPU ns/op"}

type workload struct {
	name    string
	n       int
	seconds float64 // how long a row lasts that is bounded by time
	once    bool    // a single run, without warm-up
	figure  figure
	body    func(options) sample
}

func processCPU() time.Duration {
	const clockProcessCPUTimeID = 2
	var t syscall.Timespec
	syscall.Syscall(syscall.SYS_CLOCK_GETTIME, clockProcessCPUTimeID,
		uintptr(unsafe.Pointer(&t)), 0)
	return time.Duration(t.Nano())
}

func usage() syscall.Rusage {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return u
}

// peakRSSKB is the most that was ever resident. (ru_maxrss would count what ran before exec, too.)
func peakRSSKB() int {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		panic(err)
	}
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	kb := 0
	if _, err := fmt.Sscan(rest, &kb); err != nil {
		panic(err)
	}
	return kb
}

type stopwatch struct {
	wall time.Time
	cpu  time.Duration
}

func start() stopwatch {
	cpu := processCPU()
	return stopwatch{time.Now(), cpu}
}

func (w stopwatch) stop(ops int) sample {
	wall := time.Since(w.wall)
	return sample{ops, wall.Seconds(), (processCPU() - w.cpu).Seconds(), map[string]float64{}}
}

func check(what string, got, wanted int) {
	if got != wanted {
		fmt.Fprintf(os.Stderr, "wrong result: %s is %d, not %d\n", what, got, wanted)
		os.Exit(1)
	}
}

// addPercentiles adds the p50, p99 and p99.9 of values.
func (s *sample) addPercentiles(values []time.Duration) {
	sort.Slice(values, func(i, j int) bool { return values[i] < values[j] })
	at := func(q float64) float64 {
		i := int(math.Round(q * float64(len(values)-1)))
		return float64(values[i].Nanoseconds()) / 1000
	}
	s.extra["p50_us"], s.extra["p99_us"], s.extra["p999_us"] = at(0.5), at(0.99), at(0.999)
}

func median(values []float64) float64 {
	sort.Float64s(values)
	half := len(values) / 2
	if len(values)%2 == 1 {
		return values[half]
	}
	return (values[half-1] + values[half]) / 2
}

func medianOf(samples []sample, field func(sample) float64) float64 {
	var values []float64
	for _, s := range samples {
		values = append(values, field(s))
	}
	return median(values)
}

func (w workload) measure(o options) string {
	var samples []sample
	if w.once {
		samples = append(samples, w.body(o))
	} else {
		w.body(o)
		for i := 0; i < o.reps; i++ {
			samples = append(samples, w.body(o))
		}
	}
	ops := samples[0].ops
	seconds := medianOf(samples, func(s sample) float64 { return s.seconds })
	cpuSeconds := medianOf(samples, func(s sample) float64 { return s.cpuSeconds })
	line := map[string]interface{}{
		"peer":          "go",
		"version":       strings.TrimPrefix(runtime.Version(), "go"),
		"workload":      w.name,
		"n":             ops,
		"workers":       o.workers,
		"seconds":       seconds,
		"cpu_seconds":   cpuSeconds,
		"ns_per_op":     seconds * 1e9 / float64(ops),
		"cpu_ns_per_op": cpuSeconds * 1e9 / float64(ops),
		"peak_rss_kb":   peakRSSKB(),
		"unit":          w.figure.unit,
	}
	for field := range samples[0].extra {
		line[field] = medianOf(samples, func(s sample) float64 { return s.extra[field] })
	}
	line["figure"] = line[w.figure.field]
	text, err := json.Marshal(line)
	if err != nil {
		panic(err)
	}
	return string(text)
}
