//go:build !cgo

package privilege

// cgo: this test may be linked with cgo.
const cgo = false
