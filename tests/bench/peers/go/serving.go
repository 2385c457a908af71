package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
)

type server struct {
	name    string
	session func(*net.TCPConn)
}

func servers() []server {
	return []server{{"echo", echo}, {"http_hello", httpHello}, {"idle", idle}}
}

// serve answers on a free port until standard input ends. A goroutine a connection; Go sets TCP_NODELAY
// by itself.
func serve(s server, workers int) {
	listener, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		panic(err)
	}
	go func() {
		for {
			client, err := listener.AcceptTCP()
			if err != nil {
				panic(err)
			}
			go s.session(client)
		}
	}()
	line, err := json.Marshal(map[string]interface{}{
		"peer":    "go",
		"version": strings.TrimPrefix(runtime.Version(), "go"),
		"serves":  s.name,
		"workers": workers,
		"port":    listener.Addr().(*net.TCPAddr).Port,
		"pid":     os.Getpid(),
	})
	if err != nil {
		panic(err)
	}
	fmt.Println(string(line))
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		panic(err)
	}
}

func echo(client *net.TCPConn) {
	defer client.Close()
	buffer := make([]byte, 4096)
	for {
		got, err := client.Read(buffer)
		if err != nil {
			return
		}
		if _, err := client.Write(buffer[:got]); err != nil { // all of it
			return
		}
	}
}

func idle(client *net.TCPConn) {
	defer client.Close()
	var buffer [64]byte
	for {
		if _, err := client.Read(buffer[:]); err != nil {
			return
		}
	}
}

const httpBufferSize = 4096

var answer = []byte("HTTP/1.1 200 OK\r\n" +
	"Content-Type: text/plain\r\n" +
	"Content-Length: 13\r\n" +
	"\r\n" +
	"Hello, world!")

// A request ends in no fewer than 4 bytes, and at most 3 of these came before the buffer.
var answers = bytes.Repeat(answer, (httpBufferSize+3)/4)

func httpHello(client *net.TCPConn) {
	defer client.Close()
	buffer := make([]byte, httpBufferSize)
	matched := 0
	for {
		got, err := client.Read(buffer)
		if err != nil {
			return
		}
		ends := 0
		matched, ends = countRequests(matched, buffer[:got])
		if ends == 0 {
			continue
		}
		if _, err := client.Write(answers[:ends*len(answer)]); err != nil {
			return
		}
	}
}

// countRequests finds the ends of requests, CR LF CR LF, also where a request comes in several pieces.
func countRequests(matched int, piece []byte) (int, int) {
	ends := 0
	for _, b := range piece {
		switch {
		case b == '\r' && matched == 2:
			matched = 3
		case b == '\r':
			matched = 1
		case b == '\n' && matched == 1:
			matched = 2
		case b == '\n' && matched == 3:
			matched = 0
			ends++
		default:
			matched = 0
		}
	}
	return matched, ends
}
