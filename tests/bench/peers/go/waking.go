package main

import (
	"runtime"
	"sync/atomic"
	"syscall"
	"time"
)

func wakingWorkloads() []workload {
	p99 := figure{"p99_us", "p99 us"}
	return []workload{
		{name: "external_wake", n: 20000, figure: p99, body: externalWake},
		{name: "abort_parked", n: 100000, figure: cpuPerOp, body: abortParked},
	}
}

// A plain thread cannot send on a channel: the nearest is a goroutine that has a thread for itself
// and sleeps in the kernel.
func externalWake(o options) sample {
	origin := time.Now()
	var rungAt, answered int64
	bell := make(chan struct{}, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with its timer slack
		const prSetTimerSlack = 29
		syscall.RawSyscall(syscall.SYS_PRCTL, prSetTimerSlack, 1, 0)
		nap := syscall.Timespec{Nsec: 50000}
		for i := 0; i < o.n; i++ {
			syscall.Nanosleep(&nap, nil)
			for atomic.LoadInt64(&answered) != int64(i) {
				syscall.Nanosleep(&nap, nil)
			}
			atomic.StoreInt64(&rungAt, int64(time.Since(origin)))
			bell <- struct{}{}
		}
	}()
	watch := start()
	delays := make([]time.Duration, 0, o.n)
	for i := 0; i < o.n; i++ {
		<-bell
		now := time.Since(origin)
		delays = append(delays, now-time.Duration(atomic.LoadInt64(&rungAt)))
		atomic.StoreInt64(&answered, int64(i+1))
	}
	check("wakes", len(delays), o.n)
	s := watch.stop(o.n)
	s.addPercentiles(delays)
	return s
}

// A goroutine cannot be aborted: the nearest is a stop channel for each, closed one by one.
func abortParked(o options) sample {
	half := o.n / 2
	if half == 0 {
		half = 1
	}
	n := 2 * half
	var started int64
	left := int64(n)
	gone := make(chan struct{})
	never := make(chan struct{})
	leave := func() {
		if atomic.AddInt64(&left, -1) == 0 {
			close(gone)
		}
	}
	stops := make([]chan struct{}, n)
	for i := range stops {
		stop := make(chan struct{})
		stops[i] = stop
		if i%2 == 0 {
			go func() {
				defer leave()
				timer := time.NewTimer(time.Hour)
				defer timer.Stop()
				atomic.AddInt64(&started, 1)
				select {
				case <-timer.C:
				case <-stop:
				}
			}()
		} else {
			go func() {
				defer leave()
				atomic.AddInt64(&started, 1)
				select {
				case <-never:
				case <-stop:
				}
			}()
		}
	}
	for atomic.LoadInt64(&started) < int64(n) {
		time.Sleep(time.Millisecond)
	}
	time.Sleep(10 * time.Millisecond) // the last one parks meanwhile
	watch := start()
	for _, stop := range stops {
		close(stop)
	}
	<-gone
	check("goroutines left", int(atomic.LoadInt64(&left)), 0)
	return watch.stop(n)
}
