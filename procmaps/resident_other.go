//go:build !linux

package procmaps

import "os"

func newPageScan(*os.File, uint64) (pageWalker, bool) { return nil, false }
