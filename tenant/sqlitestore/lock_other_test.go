//go:build !unix

package sqlitestore_test

func beLooker(string) {}
