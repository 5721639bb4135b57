package table

import (
	"io"
	"os"
	"testing"
)

// TestMain lets the test binary stand in for a Go program that echoes its input.
func TestMain(m *testing.M) {
	if os.Getenv("TABLE_TEST_CAT") != "" {
		if _, err := io.Copy(os.Stdout, os.Stdin); err != nil {
			os.Exit(1) //nolint:forbidigo // this is a main function
		}
		return
	}
	m.Run()
}
