package units

import (
	"testing"
	"time"
)

func TestSizes(t *testing.T) {
	t.Parallel()
	for n, want := range map[float64]string{
		0: "0 B", 1: "1 B", 1023: "1023 B", 1023.94: "1024 B", 1024: "1.0 KiB", 1536: "1.5 KiB", -1536: "-1.5 KiB",
		1023.94 * 1024: "1023.9 KiB", 1023.96 * 1024: "1.0 MiB", 12 << 20: "12.0 MiB", 5 << 30: "5.0 GiB", 3 << 40: "3.0 TiB",
		2 << 50: "2.0 PiB", 1 << 63: "8.0 EiB", 1 << 75: "32768.0 EiB",
	} {
		if got := Bytes(n); got != want {
			t.Errorf("%g bytes are %q, want %q", n, got, want)
		}
	}
	for n, want := range map[float64]string{0: "0 B", 2048: "+2.0 KiB", -2048: "-2.0 KiB"} {
		if got := Change(n); got != want {
			t.Errorf("a change of %g is %q, want %q", n, got, want)
		}
	}
}

func TestShortSizes(t *testing.T) {
	t.Parallel()
	for kb, want := range map[uint64]string{
		0: "0K", 1: "1K", 1023: "1023K", 1024: "1.0M", 1536: "1.5M", 10188: "9.9M", 10189: "10M",
		1023 << 10: "1023M", 1<<20 - 1: "1.0G", 1 << 20: "1.0G", 100 << 30: "100T", 1<<64 - 1: "16384E",
	} {
		if got := string(AppendHuman(nil, kb)); got != want {
			t.Errorf("%d KiB is %q, want %q", kb, got, want)
		}
	}
	for kb, want := range map[int64]string{0: "-", 5: "+5K", -2048: "-2.0M"} {
		if got := string(AppendHumanChange(nil, kb)); got != want {
			t.Errorf("a change of %d KiB is %q, want %q", kb, got, want)
		}
	}
}

func TestSpans(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		0: "0 s", 400 * time.Millisecond: "0 s", 1500 * time.Millisecond: "2 s", 59 * time.Second: "59 s",
		59*time.Second + 600*time.Millisecond: "1 min",
		time.Minute:                           "1 min", 41 * time.Minute: "41 min", 119 * time.Minute: "119 min",
		2 * time.Hour: "2 h", 47 * time.Hour: "47 h", 48 * time.Hour: "2 days", 100 * 24 * time.Hour: "100 days",
	} {
		if got := Span(d); got != want {
			t.Errorf("%v is %q, want %q", d, got, want)
		}
	}
}

func TestLengthsOfTime(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		0: "0 s", 50 * time.Microsecond: "0 s", 1500 * time.Microsecond: "0.002 s", 2500 * time.Millisecond: "2.5 s",
		9960 * time.Millisecond: "10 s", 119 * time.Second: "119 s", 119*time.Second + 600*time.Millisecond: "120 s",
		119*time.Second + 999_600*time.Microsecond: "2 min 0 s",
		150 * time.Second:                          "2 min 30 s", 2*time.Hour - time.Second: "119 min 59 s",
		2 * time.Hour: "2 h 0 min", 26*time.Hour + 90*time.Second: "26 h 1 min",
	} {
		if got := Length(d); got != want {
			t.Errorf("%v is %q, want %q", d, got, want)
		}
	}
}

func TestTimesFitSixCharacters(t *testing.T) {
	t.Parallel()
	for ns, want := range map[uint64]string{
		0: "0ns", 999: "999ns", 1000: "1.00us", 9994: "9.99us", 9995: "10.0us", 99_949: "99.9us", 99_950: "100us",
		999_499: "999us", 999_500: "1.00ms", 12_345_678: "12.3ms", 999_499_999: "999ms", 999_500_000: "1.00s",
		59_000_000_000: "59.0s", 3_600_000_000_000: "3600s", 12_345_000_000_000: "12345s",
	} {
		if got := Nanos(ns); got != want {
			t.Errorf("%d is %q, want %q", ns, got, want)
		}
	}
	for ns := uint64(1); ns < 90_000_000_000_000; ns += 1 + ns/7 {
		if s := Nanos(ns); len(s) > 6 {
			t.Errorf("%d is %q", ns, s)
		}
	}
}

func TestShares(t *testing.T) {
	t.Parallel()
	for share, want := range map[float64]string{
		0: "0 %", 0.5: "50 %", 0.99: "99 %", 0.995: "99.5 %", 0.999: "99.9 %", 0.9999999: "99.9 %", 1: "100 %",
	} {
		if got := Percent(share); got != want {
			t.Errorf("a share of %g is %q, want %q", share, got, want)
		}
	}
}

func TestNumbersOfThings(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		n          uint64
		what, want string
	}{
		{0, "mapping call", "0 mapping calls"},
		{1, "process", "1 process"},
		{2, "process", "2 processes"},
		{2, "other site", "2 other sites"},
	} {
		if got := Count(tt.n, tt.what); got != tt.want {
			t.Errorf("%d of %q: got %q, want %q", tt.n, tt.what, got, tt.want)
		}
	}
}
