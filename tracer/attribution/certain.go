package attribution

import (
	"time"

	"github.com/maptrace/maptrace/tracer/growth"
	"github.com/maptrace/maptrace/tracer/stack"
)

// Certainty tells when a longer watch would not say anything else: when what grows the most
// has been a leak of the same function for a while, and all else that grows, but for what is
// minor, is as certain. The zero value has seen nothing.
type Certainty struct {
	said  certain
	since time.Duration
}

type certain struct {
	space uint64
	key   growth.Key
	by    stack.Name
}

const (
	// certainAfter is the least that anything must have been watched for: what is filled
	// at the start of a watch, as caches are, is not flat before.
	certainAfter = 20 * time.Second
	// certainFor is for how long the verdict must have been the same.
	certainFor = 8 * time.Second
	// certainBy is the least confidence in who is blamed.
	certainBy = 0.99
)

// Take takes the next view, and tells whether that is so.
func (c *Certainty) Take(v *View) bool {
	var now certain
	for i := range v.Processes {
		p := &v.Processes[i]
		for k := range p.Findings {
			switch f := &p.Findings[k]; {
			case f.Label < growth.Grows || f.Minor(&p.Findings[0]):
			case f.Label < growth.Leaks || f.Confidence() < certainBy:
				*c = Certainty{}
				return false
			case i == 0 && k == 0:
				now = certain{p.Space, f.Key, f.Blamed()}
			}
		}
	}
	if now == (certain{}) || now != c.said {
		*c = Certainty{said: now, since: v.Watched}
		return false
	}
	return v.Watched >= certainAfter && v.Watched-c.since >= certainFor
}
