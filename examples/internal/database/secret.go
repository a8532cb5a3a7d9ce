package database

import (
	"crypto/hkdf"
	"crypto/sha256"
	"fmt"
	"os"
	"strings"
)

// SecretVariable is the environment variable with the text that secrets are
// derived from.
const SecretVariable = "TGFLEET_SECRET"

// secret derives a secret from the text in the environment, else from that of a
// file beside the keys, which is made where there is none.
func secret(purpose, keys string) ([]byte, error) {
	text := os.Getenv(SecretVariable)
	if text == "" {
		path := strings.TrimSuffix(keys, ".keys") + ".secret"
		if err := CreateKeys(path); err != nil { // a key is as good a secret as any
			return nil, fmt.Errorf("no secret in %s, and no file of one: %w", SecretVariable, err)
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		text = string(b)
	}
	text = strings.TrimSpace(text)
	if len(text) < 32 {
		return nil, fmt.Errorf("the secret has less than 32 characters")
	}
	return hkdf.Key(sha256.New, []byte(text), nil, "tgfleet "+purpose, 32)
}
