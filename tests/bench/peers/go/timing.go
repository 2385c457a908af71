package main

import (
	"net"
	"runtime"
	"sync/atomic"
	"time"
)

func timingWorkloads() []workload {
	p99 := figure{"p99_us", "p99 us"}
	return []workload{
		{name: "timers", n: 200000, figure: cpuPerOp, body: timers},
		{name: "timeout_churn", n: 2000000, figure: cpuPerOp,
			body: func(o options) sample { return timeoutChurn(o, 1) }},
		{name: "timeout_churn_mt", n: 2000000, figure: cpuPerOp,
			body: func(o options) sample { return timeoutChurn(o, 64) }},
		{name: "fairness_yield", n: 100, seconds: 2, once: true, figure: p99,
			body: func(o options) sample { return fairness(o, func() {}) }},
		{name: "fairness_busy", n: 100, seconds: 2, once: true, figure: p99,
			body: func(o options) sample { return fairness(o, compute) }},
		{name: "idle_cpu", n: 1, seconds: 10, once: true,
			figure: figure{"cpu_ms_per_s", "CPU ms/s"}, body: idleCPU},
	}
}

// random is splitmix64: the same numbers in every driver.
type random uint64

func (r *random) next() uint64 {
	*r += 0x9E3779B97F4A7C15
	z := uint64(*r)
	z = (z ^ z>>30) * 0xBF58476D1CE4E5B9
	z = (z ^ z>>27) * 0x94D049BB133111EB
	return z ^ z>>31
}

// lateness sleeps d and tells how much later than asked it went on.
func lateness(d time.Duration) time.Duration {
	begin := time.Now()
	time.Sleep(d)
	return time.Since(begin) - d
}

func early(late []time.Duration) int {
	count := 0
	for _, l := range late {
		if l < 0 {
			count++
		}
	}
	return count
}

func timers(o options) sample {
	watch := start()
	r := random(42)
	handles := make([]<-chan int, o.n)
	for i := range handles {
		d := time.Duration(1+r.next()%1000) * time.Millisecond
		handles[i] = spawn(func() int { return int(lateness(d)) })
	}
	late := make([]time.Duration, o.n)
	for i, handle := range handles {
		late[i] = time.Duration(<-handle)
	}
	check("early timers", early(late), 0)
	s := watch.stop(o.n)
	s.addPercentiles(late)
	return s
}

// A body cannot be dropped at its time-out in Go: the nearest is a timer that is stopped in time.
func churn(rounds int) int {
	done := 0
	for i := 0; i < rounds; i++ {
		timer := time.NewTimer(10 * time.Second)
		runtime.Gosched()
		if timer.Stop() {
			done++
		}
	}
	return done
}

func timeoutChurn(o options, tasks int) sample {
	each := o.n / tasks
	if each == 0 {
		each = 1
	}
	watch := start()
	var handles []<-chan int
	for i := 0; i < tasks; i++ {
		handles = append(handles, spawn(func() int { return churn(each) }))
	}
	done := 0
	for _, handle := range handles {
		done += <-handle
	}
	check("bodies that ended in time", done, tasks*each)
	return watch.stop(done)
}

func compute() {
	for begin := time.Now(); time.Since(begin) < 100*time.Millisecond; {
	}
}

func fairness(o options, work func()) sample {
	watch := start()
	until := time.Now().Add(time.Duration(o.seconds * 1e9))
	var stop int32
	hog := spawn(func() int {
		yields := 0
		for ; atomic.LoadInt32(&stop) == 0; yields++ {
			work()
			runtime.Gosched()
		}
		return yields
	})
	sleepers := make([]chan []time.Duration, o.n)
	for i := range sleepers {
		result := make(chan []time.Duration, 1)
		sleepers[i] = result
		go func() {
			var late []time.Duration
			for time.Now().Before(until) {
				late = append(late, lateness(time.Millisecond))
			}
			result <- late
		}()
	}
	var late []time.Duration
	for _, sleeper := range sleepers {
		late = append(late, <-sleeper...)
	}
	atomic.StoreInt32(&stop, 1)
	yields := <-hog
	check("early sleeps", early(late), 0)
	s := watch.stop(len(late))
	s.extra["yields_per_s"] = float64(yields) / o.seconds
	s.addPercentiles(late)
	return s
}

func idleCPU(o options) sample {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	go listener.Accept()
	go func() {
		for {
			time.Sleep(time.Second)
		}
	}()
	time.Sleep(100 * time.Millisecond) // all have gone to sleep
	before := usage()
	watch := start()
	time.Sleep(time.Duration(o.seconds * 1e9))
	s := watch.stop(1)
	after := usage()
	switches := after.Nvcsw + after.Nivcsw - before.Nvcsw - before.Nivcsw
	s.extra["cpu_ms_per_s"] = s.cpuSeconds * 1000 / s.seconds
	s.extra["switches_per_s"] = float64(switches) / s.seconds
	return s
}
