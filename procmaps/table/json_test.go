package table

import (
	"bytes"
	"encoding/json"
	"testing"
	"unicode/utf8"
)

// encoded is a string as encoding/json and JSONWriter write it together.
func encoded(t *testing.T, s any) string {
	t.Helper()
	var b bytes.Buffer
	if err := json.NewEncoder(JSONWriter(&b)).Encode(s); err != nil {
		t.Fatal(err)
	}
	return string(bytes.TrimSuffix(b.Bytes(), []byte("\n")))
}

func TestNoCharacterOfJSONSteersATerminal(t *testing.T) {
	tests := []struct{ name, in, want string }{
		{"a plain name", "/usr/lib/libc.so.6", `"/usr/lib/libc.so.6"`},
		{"a terminal sequence", "a\x1b[31m", `"a\u001b[31m"`},
		{"one that encoding/json lets through", "a\u009b31m\x7f", `"a\u009b31m\u007f"`},
		{"text that turns the direction", "a\u202eb", `"a\u202eb"`},
		{"one beyond the first 65,536 characters", "a\U000e0001b", `"a\udb40\udc01b"`},
		{"letters of other alphabets stay", "é日𝄞", `"é日𝄞"`},
		{"broken UTF-8", "a\xffb\xe2\x82", `"a\\xffb\\xe2\\x82"`},
		{"a newline within a name", "a\nb", `"a\nb"`},
	}
	for _, tt := range tests {
		if got := string(AppendJSONString(nil, tt.in)); got != tt.want {
			t.Errorf("%s: appended: got %s, want %s", tt.name, got, tt.want)
		}
		if got := encoded(t, Name(tt.in)); got != tt.want {
			t.Errorf("%s: encoded: got %s, want %s", tt.name, got, tt.want)
		}
	}
}

func FuzzJSONString(f *testing.F) {
	f.Add("a\x1b[31m\xff\u202e\u009b\U000e0001é<&>\"\\")
	f.Fuzz(func(t *testing.T, s string) {
		got := string(AppendJSONString(nil, s))
		if want := encoded(t, Name(s)); got != want {
			t.Errorf("%q is %s, and %s encoded", s, got, want)
		}
		if want := encoded(t, s); utf8.ValidString(s) && got != want {
			t.Errorf("%q is %s, and %s encoded as a string", s, got, want)
		}
	})
}
