package site

// recent keeps what was asked for of late, within so many bytes. There are two
// generations:
//
//	put ──▶ young ──(young is half of all)──▶ old ──(again)──▶ dropped
//	          ▲                               │
//	          └──────────── get ──────────────┘
//
// So what is asked for once a generation stays, and nothing has to be sorted, or
// looked at one by one, to find what is the least used.
type recent[K comparable, V any] struct {
	most    int // bytes of both generations
	size    func(V) int
	dropped func(K, V) // told of each that goes; nil for nobody

	young, old map[K]V
	bytes      int // of the young
	oldBytes   int // when they were young; some may be young again
}

func newRecent[K comparable, V any](most int, size func(V) int, dropped func(K, V)) *recent[K, V] {
	return &recent[K, V]{most: most, size: size, dropped: dropped, young: make(map[K]V), old: make(map[K]V)}
}

// get finds what is kept of a key, and notes that it is used.
func (r *recent[K, V]) get(k K) (v V, ok bool) {
	if v, ok = r.young[k]; ok {
		return v, true
	}
	if v, ok = r.old[k]; ok {
		delete(r.old, k)
		r.put(k, v)
	}
	return v, ok
}

// put keeps something new.
func (r *recent[K, V]) put(k K, v V) {
	size := r.size(v)
	if r.bytes > 0 && r.bytes+size > r.most/2 {
		r.turn()
	}
	r.young[k] = v
	r.bytes += size
}

// take takes away what is kept of a key. Nobody is told that it goes.
func (r *recent[K, V]) take(k K) (v V, ok bool) {
	if v, ok = r.young[k]; ok {
		delete(r.young, k)
		r.bytes -= r.size(v)
	} else if v, ok = r.old[k]; ok {
		delete(r.old, k)
		r.oldBytes -= min(r.oldBytes, r.size(v))
	}
	return v, ok
}

// turn makes the young generation the old one. What is left of that is dropped.
func (r *recent[K, V]) turn() {
	if r.dropped != nil {
		for k, v := range r.old {
			r.dropped(k, v)
		}
	}
	clear(r.old)
	r.young, r.old = r.old, r.young
	r.bytes, r.oldBytes = 0, r.bytes
}

// held is how many bytes are kept, at most.
func (r *recent[K, V]) held() int { return r.bytes + r.oldBytes }

// store keeps what is in use apart from what merely comes by: of that there may be so
// much between two observations that nothing would stay until the next.
type store[K comparable, V any] struct{ passing, used *recent[K, V] }

func newStore[K comparable, V any](most int, size func(V) int, dropped func(K, V)) *store[K, V] {
	return &store[K, V]{newRecent(most/2, size, dropped), newRecent(most/2, size, dropped)}
}

// get finds what is kept of a key.
func (s *store[K, V]) get(k K) (v V, ok bool) {
	if v, ok = s.used.get(k); ok {
		return v, true
	}
	return s.passing.get(k)
}

// use notes that what is kept of a key is in use, if there is anything.
func (s *store[K, V]) use(k K) {
	if _, ok := s.used.get(k); ok {
		return
	}
	if v, ok := s.passing.take(k); ok {
		s.used.put(k, v)
	}
}

// put keeps something new.
func (s *store[K, V]) put(k K, v V) { s.passing.put(k, v) }

// held is how many bytes are kept, at most.
func (s *store[K, V]) held() int { return s.passing.held() + s.used.held() }
