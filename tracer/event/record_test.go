package event

import "testing"

func TestWordsAddUp(t *testing.T) {
	t.Parallel()
	w := Words{1, 2, 3, 4, 5, 6, 7}
	if got, want := w.Plus(w), (Words{2, 4, 6, 8, 10, 12, 14}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}
