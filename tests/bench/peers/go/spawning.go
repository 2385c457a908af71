package main

import "runtime"

func spawningWorkloads() []workload {
	return []workload{
		{name: "spawn_join", n: 1000000, figure: cpuPerOp, body: spawnJoin},
		{name: "chained_spawn", n: 1000000, figure: cpuPerOp, body: chainedSpawn},
		{name: "yield_many", n: 1000000, figure: cpuPerOp, body: yieldMany},
		{name: "skynet", n: 1000000, figure: cpuPerOp, body: skynet},
		{name: "fib", n: 317810, figure: cpuPerOp, body: fib},
	}
}

func sumBelow(n int) int { return n * (n - 1) / 2 }

// spawn starts a goroutine; the channel is its handle.
func spawn(body func() int) <-chan int {
	result := make(chan int, 1)
	go func() { result <- body() }()
	return result
}

func spawnJoin(o options) sample {
	const batch = 1000
	watch := start()
	handles := make([]<-chan int, 0, batch)
	sum := 0
	for next := 0; next < o.n; {
		for ; len(handles) < batch && next < o.n; next++ {
			i := next
			handles = append(handles, spawn(func() int { return i }))
		}
		for _, handle := range handles {
			sum += <-handle
		}
		handles = handles[:0]
	}
	check("sum", sum, sumBelow(o.n))
	return watch.stop(o.n)
}

func chainLink(left int, done chan<- int) {
	if left == 1 {
		done <- left
		return
	}
	go chainLink(left-1, done)
}

func chainedSpawn(o options) sample {
	watch := start()
	done := make(chan int, 1)
	go chainLink(o.n, done)
	check("last link", <-done, 1)
	return watch.stop(o.n)
}

func yieldMany(o options) sample {
	const tasks = 200
	each := o.n / tasks
	if each == 0 {
		each = 1
	}
	watch := start()
	var handles []<-chan int
	for i := 0; i < tasks; i++ {
		handles = append(handles, spawn(func() int {
			yields := 0
			for ; yields < each; yields++ {
				runtime.Gosched()
			}
			return yields
		}))
	}
	yields := 0
	for _, handle := range handles {
		yields += <-handle
	}
	check("yields", yields, tasks*each)
	return watch.stop(yields)
}

// The usual Go form: the children of a node share one channel.
func skynetNode(first, leaves int, result chan<- int) {
	if leaves == 1 {
		result <- first
		return
	}
	part := leaves / 10
	children := make(chan int, 10)
	for i := 0; i < 10; i++ {
		go skynetNode(first+i*part, part, children)
	}
	sum := 0
	for i := 0; i < 10; i++ {
		sum += <-children
	}
	result <- sum
}

func skynet(o options) sample {
	leaves := 1 // the largest full tree with at most n leaves
	for leaves*10 <= o.n {
		leaves *= 10
	}
	watch := start()
	result := make(chan int, 1)
	go skynetNode(0, leaves, result)
	check("sum", <-result, sumBelow(leaves))
	return watch.stop(leaves)
}

func fibTask(k int) int {
	if k < 2 {
		return k
	}
	spawned := spawn(func() int { return fibTask(k - 1) })
	inline := fibTask(k - 2)
	return <-spawned + inline
}

func fib(o options) sample {
	// fib(k) spawns fib(k+1) - 1 goroutines; the largest k with at most n of them.
	k, this, next := 1, 1, 1 // this = fib(k), next = fib(k+1)
	for this+next-1 <= o.n {
		k, this, next = k+1, next, this+next
	}
	watch := start()
	check("fib", fibTask(k), this)
	return watch.stop(next - 1)
}
