package mesh

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

const gossipKeyLength = 32

// CreateKey writes a fresh gossip key to path, base64 of 32 bytes.
func CreateKey(path string) error {
	key := make([]byte, gossipKeyLength)
	_, _ = rand.Read(key) // never fails
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("folder for the key: %w", err)
	}
	return writeNew(path, []byte(base64.StdEncoding.EncodeToString(key)+"\n"), 0o600)
}

// LoadKey reads a gossip key. A missing file is ErrNoKey.
func LoadKey(path string) ([]byte, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%w: %w", ErrNoKey, err)
	}
	if err != nil {
		return nil, fmt.Errorf("gossip key: %w", err)
	}
	if err := checkPrivate(path); err != nil {
		return nil, err
	}
	key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(b)))
	if err != nil {
		return nil, fmt.Errorf("gossip key %s: %w; it must be base64 of 16, 24 or 32 bytes", path, err)
	}
	if err := checkKey(key); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return key, nil
}

// checkPrivate refuses a secret that every user of the machine can read.
func checkPrivate(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("secret file: %w", err)
	}
	if info.Mode().Perm()&0o007 != 0 {
		return fmt.Errorf("%s is open to every user: chmod 600 it", path)
	}
	return nil
}
