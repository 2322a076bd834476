package server

import (
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"syscall"
)

// account is who the SQL server runs as: it refuses to run as root unless told to.
type account struct {
	credential *syscall.Credential // nil: as ourselves
	options    []string
}

func unprivileged() account {
	if os.Geteuid() != 0 {
		return account{}
	}
	u, err := user.Lookup("mysql")
	if err != nil {
		return account{options: []string{"--user=root"}}
	}
	uid, _ := strconv.ParseUint(u.Uid, 10, 32) // numbers on Linux
	gid, _ := strconv.ParseUint(u.Gid, 10, 32)
	return account{credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
}

// directories makes those that are missing and gives all to the account.
func (a account) directories(paths ...string) error {
	for _, path := range paths {
		if err := os.MkdirAll(path, 0o700); err != nil {
			return err
		}
		if a.credential != nil {
			if err := os.Chown(path, int(a.credential.Uid), int(a.credential.Gid)); err != nil {
				return err
			}
		}
	}
	return nil
}

// lend makes the command run as the account.
func (a account) lend(cmd *exec.Cmd) {
	if a.credential != nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: a.credential}
	}
}

// dieWithParent has the kernel kill the command when the thread that starts it goes, which is when this process does unless
// a goroutine that holds the thread ends. The command is in a group of its
// own, so that Ctrl-C on a terminal reaches the tests and not their servers.
func dieWithParent(cmd *exec.Cmd) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	cmd.SysProcAttr.Setpgid = true
}
