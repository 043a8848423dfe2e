package main

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// column is one of the table. What it means is printed below.
type column struct {
	group, name, format string
	value               func(r row) float64
	ratio               bool // to the first row, behind the value
	meaning             string
}

// cell is what the column says of r.
func (c column) cell(r, first row) string {
	text := fmt.Sprintf(c.format, c.value(r))
	if c.ratio {
		text += fmt.Sprintf(" x%.2f", c.value(r)/c.value(first))
	}
	return text
}

func columns(s settings) []column {
	one, many := fmt.Sprintf("%d single changes", s.changes), fmt.Sprintf("%d addresses at once", s.burst)
	const start, memory = "start in sync", "process"
	ms := func(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
	mib := func(n int) float64 { return float64(n) / (1 << 20) }
	of := func(n int) int { return max(1, n) }
	return []column{
		{
			"", "subnets", "%.0f", func(r row) float64 { return float64(r.subnets) }, false,
			"how many subnets are there already, half of them in large EPGs and half in EPGs of twenty",
		},
		{
			one, "p50", "%.1f", func(r row) float64 { return ms(percentile(r.single.latency, 50)) }, true,
			"ms from the API server's answer that it has the Pod's address until the subnet is on the APIC, of which 50 ms are " +
				"waiting for company: half take longer",
		},
		{
			one, "p95", "%.1f", func(r row) float64 { return ms(percentile(r.single.latency, 95)) }, true,
			"the same: one in twenty takes longer",
		},
		{
			one, "cpu", "%.1f", func(r row) float64 { return ms(r.single.cpu) }, true,
			"ms of CPU that aci-sync takes for a change, beyond what it takes idle",
		},
		{
			many, "arrive", "%.2f", func(r row) float64 { return r.burst.arrival.Seconds() }, false,
			"s that the API server takes to take them in",
		},
		{
			many, "done", "%.2f", func(r row) float64 { return r.burst.done.Seconds() }, false,
			"s from then until the last one is on the APIC",
		},
		{
			many, "writes", "%.0f", func(r row) float64 { return float64(r.burst.writes) }, false,
			"requests that write; N/500 and three for each second of arrival are allowed",
		},
		{
			many, "each", "%.0f", func(r row) float64 { return float64(r.burst.addresses) / float64(of(r.burst.writes)) }, false,
			"subnets in a write, on average",
		},
		{
			many, "cpu", "%.2f", func(r row) float64 { return ms(r.burst.cpu) / float64(of(r.burst.addresses)) }, false,
			"ms of CPU that aci-sync takes for an address",
		},
		{
			start, "ready", "%.2f", func(r row) float64 { return r.start.ready.Seconds() }, false,
			"s from exec until aci-sync has read all and decides",
		},
		{
			start, "reqs", "%.0f", func(r row) float64 { return float64(r.start.requests) }, false,
			"requests to the APIC",
		},
		{
			start, "writes", "%.0f", func(r row) float64 { return float64(r.start.writes) }, false,
			"of these, those that write: none is allowed",
		},
		{
			memory, "MiB", "%.0f", func(r row) float64 { return mib(r.memory.now) }, false,
			"resident after the single changes",
		},
		{
			memory, "peak", "%.0f", func(r row) float64 { return mib(r.memory.peak) }, false,
			"MiB, the most since the start",
		},
		{
			memory, "idle", "%.1f%%", func(r row) float64 { return 100 * r.idle }, false,
			"CPU that doing nothing takes, of one core",
		},
	}
}

// writeTable prints rows as aligned text, then what each column means.
func writeTable(w io.Writer, s settings, rows []row) {
	cols := columns(s)
	widths := make([]int, len(cols))
	for i, c := range cols {
		widths[i] = len(c.name)
		for _, r := range rows {
			widths[i] = max(widths[i], len(c.cell(r, rows[0])))
		}
	}
	gap := func(i int) int {
		switch {
		case i == 0:
			return 0
		case cols[i].group != cols[i-1].group:
			return 4
		}
		return 2
	}
	line := func(text func(c column) string) string {
		var b strings.Builder
		for i, c := range cols {
			fmt.Fprintf(&b, "%*s", gap(i)+widths[i], text(c))
		}
		return b.String() + "\n"
	}
	names := line(func(c column) string { return c.name })
	groups, at := "", 0 // the name of a group stands where its first column begins
	for i, c := range cols {
		if at += gap(i); gap(i) > 2 {
			groups += strings.Repeat(" ", max(1, at-len(groups))) + c.group
		}
		at += widths[i]
	}
	_, _ = io.WriteString(w, groups+"\n"+names)
	for _, r := range rows {
		_, _ = io.WriteString(w, line(func(c column) string { return c.cell(r, rows[0]) }))
	}
	fmt.Fprintf(w, "\nx is the ratio to the row of %d subnets. The columns, in order:\n", rows[0].subnets)
	for i, c := range cols {
		if gap(i) > 2 {
			fmt.Fprintln(w, c.group)
		}
		fmt.Fprintf(w, "  %-8s%s\n", c.name, c.meaning)
	}
}
