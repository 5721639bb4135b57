package table

import (
	"strconv"

	"github.com/maptrace/maptrace/procmaps/units"
)

func formatHuman(dst []byte, v Value) []byte { return units.AppendHuman(dst, v.Uint64()) }

// AppendAmount appends an amount of KiB with its unit.
func (o *Options) AppendAmount(dst []byte, kb uint64) []byte {
	if o.Human {
		return units.AppendHuman(dst, kb)
	}
	return append(strconv.AppendUint(dst, kb, 10), 'K')
}

// sizeName is the heading above sizes.
func (o *Options) sizeName() string {
	if o.Human {
		return "Size"
	}
	return "Kbytes"
}

// amountColumn is a column of KiB, in the form that was asked for.
func amountColumn[R any](o *Options, name, key string, width int, value func(*R) uint64) Column[R] {
	c := Column[R]{
		Name: name, Key: key, Align: Right, Width: width, Sum: true,
		Value: func(r R) Value { return Uint(value(&r)) },
	}
	if o.Human {
		c.Format = formatHuman
	}
	return c
}
