package main

import (
	"runtime"
	"sync/atomic"
)

func shardingWorkloads() []workload {
	return []workload{
		{name: "submit_to", n: 200000, figure: cpuPerOp, body: submitTo},
		{name: "submit_stream", n: 5000000, figure: cpuPerOp, body: submitStream},
	}
}

// Runs the body beside two goroutines that yield without end.
func besideYielding(body func() sample) sample {
	var over int32
	ended := make(chan struct{})
	for i := 0; i < 2; i++ {
		go func() {
			for atomic.LoadInt32(&over) == 0 {
				runtime.Gosched()
			}
			ended <- struct{}{}
		}()
	}
	s := body()
	atomic.StoreInt32(&over, 1)
	<-ended
	<-ended
	return s
}

func submitTo(o options) sample {
	return besideYielding(func() sample {
		ask, answer := make(chan int), make(chan int)
		go func() {
			for n := range ask {
				answer <- n + 1
			}
		}()
		watch := start()
		for i := 0; i < o.n; i++ {
			ask <- i
			check("answer", <-answer, i+1)
		}
		s := watch.stop(o.n)
		close(ask)
		return s
	})
}

func submitStream(o options) sample {
	return besideYielding(func() sample {
		numbers, total := make(chan int, 128), make(chan int)
		watch := start()
		go func() {
			sum := 0
			for n := range numbers {
				sum += n
			}
			total <- sum
		}()
		for i := 0; i < o.n; i++ {
			numbers <- i
		}
		close(numbers)
		check("sum", <-total, o.n*(o.n-1)/2)
		return watch.stop(o.n)
	})
}
