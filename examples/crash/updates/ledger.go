package main

import (
	"bufio"
	"os"
	"strconv"
	"strings"
)

// entry is the work of an update: the nth message of a chat.
type entry struct{ tenant, chat, n string }

func (e entry) key() string { return e.tenant + " " + e.chat + " " + e.n }

// ledger is what was handled, in the order in which it was.
type ledger struct {
	seen            map[string]bool
	lines           int // that say "done"
	again           int // updates that came again after their work was done
	twice, disorder int
}

// readLedger reads a ledger, which need not be there. Half a line is none.
func readLedger(path string) (*ledger, error) {
	l := &ledger{seen: make(map[string]bool)}
	f, err := os.Open(path)
	if os.IsNotExist(err) {
		return l, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	last := make(map[string]int)
	for in := bufio.NewReader(f); ; {
		line, err := in.ReadString('\n')
		if err != nil {
			return l, nil
		}
		what, key, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		if what == "again" {
			l.again++
			continue
		}
		l.lines++
		if l.seen[key] {
			l.twice++
		}
		l.seen[key] = true
		cut := strings.LastIndexByte(key, ' ')
		n, err := strconv.Atoi(key[cut+1:])
		if err != nil {
			return nil, err
		}
		if n < last[key[:cut]] {
			l.disorder++
		}
		last[key[:cut]] = n
	}
}
