package table

import "strconv"

// AppendHuman appends an amount given in KiB with a unit of 1,024s, rounded to
// two digits or more: 96K, 1.2M, 340M, 12G.
func AppendHuman(dst []byte, kb uint64) []byte {
	const units = "KMGTPE"
	unit, v := 0, float64(kb)
	for v >= 1023.5 && unit < len(units)-1 {
		v /= 1024
		unit++
	}
	decimals := 0
	if unit > 0 && v < 9.95 {
		decimals = 1
	}
	return append(strconv.AppendFloat(dst, v, 'f', decimals, 64), units[unit])
}

// AppendHumanChange is AppendHuman for a change: with its sign, and "-" for none.
func AppendHumanChange(dst []byte, kb int64) []byte {
	switch {
	case kb == 0:
		return append(dst, '-')
	case kb < 0:
		return AppendHuman(append(dst, '-'), uint64(-kb))
	}
	return AppendHuman(append(dst, '+'), uint64(kb))
}

func formatHuman(dst []byte, v Value) []byte { return AppendHuman(dst, v.Uint64()) }

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
