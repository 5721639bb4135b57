//go:build !amd64 && !arm64

package tracer

// Live is an engine that there is not on this architecture.
type Live struct{ Engine }

// OpenLive refuses: there are no programs for this architecture.
func OpenLive(LiveOptions) (*Live, error) { return nil, ErrArchitecture }
