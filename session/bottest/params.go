package bottest

import (
	"encoding/json"
	"strconv"
	"strings"
)

// params are a call's parameters as text.
type params map[string]string

func (p params) get(name string) string { return p[name] }

// int reads a number as the real server does: what is none is the default,
// what is out of bounds goes to the bound.
func (p params) int(name string, otherwise, low, high int64) int64 {
	n, err := strconv.ParseInt(strings.TrimSpace(p[name]), 10, 64)
	if err != nil {
		return otherwise
	}
	return min(max(n, low), high)
}

func (p params) id(name string) int64 {
	n, _ := strconv.ParseInt(strings.TrimSpace(p[name]), 10, 64)
	return n
}

func (p params) float(name string) (float64, bool) {
	f, err := strconv.ParseFloat(strings.TrimSpace(p[name]), 64)
	return f, err == nil && f == f
}

func (p params) bool(name string) bool {
	switch strings.ToLower(strings.TrimSpace(p[name])) {
	case "true", "yes", "1":
		return true
	}
	return false
}

// json decodes a parameter that is an object or an array. It reports whether
// it is there, and what is wrong with it.
func (p params) json(name string, into any) (found bool, err error) {
	text := p[name]
	if text == "" {
		return false, nil
	}
	return true, json.Unmarshal([]byte(text), into)
}
