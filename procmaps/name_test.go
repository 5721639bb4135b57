package procmaps

import "testing"

func TestShortNames(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"/usr/lib/libc.so.6": "libc.so.6", "/bin": "bin", "/memfd:a/b (deleted)": "b (deleted)", "/ends/in/": "",
		"[heap]": "[heap]", "[anon:a/b]": "[anon:a/b]", "anon_inode:[io_uring]": "anon_inode:[io_uring]", "": "",
	} {
		if got := ShortName(name); got != want {
			t.Errorf("%q: got %q, want %q", name, got, want)
		}
	}
}
