//go:build !linux

package server

import (
	"os"
	"os/exec"
)

// account is who the SQL server runs as; elsewhere than on Linux, always ourselves.
type account struct{ options []string }

func unprivileged() account { return account{} }

func (account) directories(paths ...string) error {
	for _, path := range paths {
		if err := os.MkdirAll(path, 0o700); err != nil {
			return err
		}
	}
	return nil
}

func (account) lend(*exec.Cmd) {}

// dieWithParent is only known on Linux; elsewhere the servers outlive a parent that was killed.
func dieWithParent(*exec.Cmd) {}
