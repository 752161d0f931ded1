// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// ticksPerSecond is the unit of the times in /proc: USER_HZ, which Linux fixes at 100.
const ticksPerSecond = 100

// processes follows the processes that this one has started: the stack's programs.
type processes struct {
	mu   sync.Mutex
	seen map[string]*child // by process id
	base map[string]float64
}

// child is one process: its program, its processor time in seconds, and its largest resident memory in bytes.
type child struct {
	program string
	seconds float64
	peak    int64
}

func newProcesses() *processes {
	return &processes{seen: map[string]*child{}, base: map[string]float64{}}
}

// sample reads /proc every quarter of a second until ctx ends. What was used before the first time does not count.
func (p *processes) sample(ctx context.Context) {
	p.read()
	p.mu.Lock()
	for id, one := range p.seen {
		p.base[id] = one.seconds
	}
	p.mu.Unlock()
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			p.read()
		}
	}
}

func (p *processes) read() {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	self := strconv.Itoa(os.Getpid())
	for _, path := range stats {
		data, err := os.ReadFile(path)
		if err != nil {
			continue // the process has ended
		}
		// PID (COMMAND) STATE PPID … with utime, stime and rss as the 14th, 15th and 24th field.
		head, tail, ok := strings.Cut(string(data), ") ")
		fields := strings.Fields(tail)
		if !ok || len(fields) < 22 || fields[1] != self {
			continue
		}
		id, program, _ := strings.Cut(head, " (")
		one := p.seen[id]
		if one == nil {
			one = &child{program: program}
			p.seen[id] = one
		}
		one.seconds = (number(fields[11]) + number(fields[12])) / ticksPerSecond
		one.peak = max(one.peak, int64(number(fields[21]))*int64(os.Getpagesize()))
	}
}

func number(s string) float64 {
	n, _ := strconv.ParseFloat(s, 64) // the kernel writes numbers
	return n
}

// cpuSeconds sums up the processor time by program.
func (p *processes) cpuSeconds() map[string]float64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	sums := map[string]float64{}
	for id, one := range p.seen {
		sums[one.program] += one.seconds - p.base[id]
	}
	return sums
}

// peaks lists the largest resident memory of each process of a program, in bytes.
func (p *processes) peaks(program string) (bytes []int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, one := range p.seen {
		if one.program == program {
			bytes = append(bytes, one.peak)
		}
	}
	return bytes
}
