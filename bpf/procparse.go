package bpf

import "bytes"

// procStat is what a pass needs of /proc/PID/stat, all threads included.
type procStat struct {
	zombie                   bool
	minorFaults, majorFaults uint64
	ticks                    uint64 // user and system time, USER_HZ
	threads                  uint64
	start                    uint64 // ticks since boot
	rssPages                 uint64
}

// parseStat reads /proc/PID/stat. The name in its second field may hold
// anything, also spaces and parentheses; the last parenthesis ends it.
func parseStat(text []byte) (st procStat, ok bool) {
	i := bytes.LastIndexByte(text, ')')
	if i < 0 || i+2 >= len(text) {
		return st, false
	}
	rest := text[i+2:]
	st.zombie = rest[0] == 'Z' || rest[0] == 'X'
	const firstField = 3 // rest starts with field 3, state
	for field := firstField; field <= 24; field++ {
		word, after, found := bytes.Cut(rest, []byte{' '})
		if !found {
			return st, false
		}
		rest = after
		var to *uint64
		add := uint64(0)
		switch field {
		case 10:
			to = &st.minorFaults
		case 12:
			to = &st.majorFaults
		case 14:
			to = &st.ticks
		case 15:
			to, add = &st.ticks, st.ticks
		case 20:
			to = &st.threads
		case 22:
			to = &st.start
		case 24:
			to = &st.rssPages
		default:
			continue
		}
		n, ok := parseUint(word)
		if !ok {
			return st, false
		}
		*to = n + add
	}
	return st, true
}

// parseSchedstat reads /proc/PID/task/TID/schedstat: CPU ns, wait ns, slices.
func parseSchedstat(text []byte) (cpu, wait uint64, ok bool) {
	first, rest, found := bytes.Cut(text, []byte{' '})
	if !found {
		return 0, 0, false
	}
	second, _, found := bytes.Cut(rest, []byte{' '})
	if !found {
		return 0, 0, false
	}
	cpu, ok = parseUint(first)
	if !ok {
		return 0, 0, false
	}
	wait, ok = parseUint(second)
	return cpu, wait, ok
}

// parseIO finds the storage bytes in /proc/PID/io.
func parseIO(text []byte) (read, write uint64, ok bool) {
	var haveRead, haveWrite bool
	for len(text) > 0 {
		var line []byte
		line, text, _ = bytes.Cut(text, []byte{'\n'})
		if v, found := bytes.CutPrefix(line, []byte("read_bytes: ")); found {
			read, haveRead = parseUint(v)
		}
		if v, found := bytes.CutPrefix(line, []byte("write_bytes: ")); found {
			write, haveWrite = parseUint(v)
		}
	}
	return read, write, haveRead && haveWrite
}

// parseUint reads decimal digits alone, without allocating.
func parseUint(text []byte) (n uint64, ok bool) {
	if len(text) == 0 || len(text) > 20 {
		return 0, false
	}
	for _, c := range text {
		if c < '0' || c > '9' {
			return 0, false
		}
		next := n*10 + uint64(c-'0')
		if n > (1<<64-1)/10 || next < n*10 {
			return 0, false
		}
		n = next
	}
	return n, true
}
