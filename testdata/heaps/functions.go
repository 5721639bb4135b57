package heaps

import (
	"cmp"
	"debug/elf"
	"fmt"
	"slices"

	"github.com/ianlancetaylor/demangle"
)

// Function is a function of a file.
type Function struct {
	Name        string
	Start, Size uint64
}

// Functions reads the functions of a file, with readable names, by their addresses.
func Functions(path string) ([]Function, error) {
	f, err := elf.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	symbols, err := f.Symbols()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	var functions []Function
	for _, s := range symbols {
		if elf.ST_TYPE(s.Info) == elf.STT_FUNC && s.Size > 0 {
			functions = append(functions, Function{demangle.Filter(s.Name, demangle.NoParams), s.Value, s.Size})
		}
	}
	slices.SortFunc(functions, func(a, b Function) int { return cmp.Compare(a.Start, b.Start) })
	return functions, nil
}
