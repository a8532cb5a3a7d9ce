//go:build race

package usage_test

const racing = true
