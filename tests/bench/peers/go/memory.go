package main

import (
	"fmt"
	"os"
	"sync/atomic"
	"time"
)

func memoryWorkloads() []workload {
	return []workload{{name: "memory_per_task", n: 1000000, once: true,
		figure: figure{"bytes_per_task", "bytes/task"}, body: memoryPerTask}}
}

func residentBytes() int {
	statm, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		panic(err)
	}
	var size, resident int
	if _, err := fmt.Sscan(string(statm), &size, &resident); err != nil {
		panic(err)
	}
	return resident * os.Getpagesize()
}

type waitingRoom struct {
	started int64
	never   chan struct{}
}

func (r *waitingRoom) wait() {
	atomic.AddInt64(&r.started, 1)
	<-r.never
}

func (r *waitingRoom) awaitStarted(count int) {
	for atomic.LoadInt64(&r.started) < int64(count) {
		time.Sleep(time.Millisecond)
	}
}

func memoryPerTask(o options) sample {
	room := &waitingRoom{never: make(chan struct{})}
	go room.wait()
	room.awaitStarted(1)
	before := residentBytes()
	watch := start()
	for i := 0; i < o.n; i++ {
		go room.wait()
	}
	room.awaitStarted(o.n + 1)
	s := watch.stop(o.n)
	s.extra["bytes_per_task"] = float64(residentBytes()-before) / float64(o.n)
	return s
}
