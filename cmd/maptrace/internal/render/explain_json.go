package render

import (
	"encoding/json"
	"io"

	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/procmaps/table"
	"github.com/maptrace/maptrace/tracer/explain"
)

// ExplanationObject is an explanation in JSON.
type ExplanationObject struct {
	Event  string     `json:"event"` // "explanation"
	Source string     `json:"source"`
	PID    int        `json:"pid,omitempty"`
	Comm   table.Name `json:"comm,omitempty"`
	*AddressObject
	Fault       *FaultObject   `json:"fault,omitempty"`
	Instruction *AddressObject `json:"instruction,omitempty"`
}

// AddressObject is what is at one address.
type AddressObject struct {
	Address    Address          `json:"address"`
	Tag        uint8            `json:"tag,omitempty"` // of arm64, which the address has without
	What       string           `json:"what"`
	Sentence   string           `json:"sentence"`
	Mapping    *MappingObject   `json:"mapping,omitempty"`
	Into       *uint64          `json:"into,omitempty"` // bytes from the mapping's start
	TID        int              `json:"tid,omitempty"`  // whose stack or guard it is
	FileOffset *uint64          `json:"file_offset,omitempty"`
	FileSize   *uint64          `json:"file_size,omitempty"`
	Page       *PageObject      `json:"page,omitempty"`
	PageWhy    string           `json:"page_unknown,omitempty"`
	Symbol     *SymbolObject    `json:"symbol,omitempty"`
	SymbolWhy  string           `json:"symbol_unknown,omitempty"`
	StackLimit *uint64          `json:"stack_limit,omitempty"`
	Below      *NeighbourObject `json:"below,omitempty"`
	Above      *NeighbourObject `json:"above,omitempty"`
	Missing    string           `json:"missing,omitempty"`
}

// MappingObject is one mapping. Mode is as far as it is known.
type MappingObject struct {
	Start    Address    `json:"address"`
	End      Address    `json:"end"`
	Size     uint64     `json:"size"`
	Mode     string     `json:"mode,omitempty"`
	Offset   *uint64    `json:"offset,omitempty"`
	Device   string     `json:"device,omitempty"`
	Inode    uint64     `json:"inode,omitempty"`
	Kind     string     `json:"kind"`
	Role     string     `json:"role"`
	Inferred bool       `json:"inferred"`
	TID      int        `json:"tid,omitempty"`
	Mapping  table.Name `json:"mapping,omitempty"`
}

// NeighbourObject is a mapping beside an address.
type NeighbourObject struct {
	MappingObject
	Distance uint64 `json:"distance"`
}

// PageObject is the state of a page. What a kernel does not tell is left out.
type PageObject struct {
	Present   bool  `json:"present"`
	Swapped   bool  `json:"swapped"`
	File      bool  `json:"file"`
	Exclusive bool  `json:"exclusive"`
	Guard     bool  `json:"guard"`
	SoftDirty bool  `json:"soft_dirty,omitempty"`
	Huge      *bool `json:"huge,omitempty"`
	Zero      *bool `json:"zero,omitempty"`
}

// SymbolObject is what a file says of an address.
type SymbolObject struct {
	Function table.Name `json:"function,omitempty"`
	Offset   *uint64    `json:"offset,omitempty"` // into the function
	File     table.Name `json:"file,omitempty"`
	Line     int        `json:"line,omitempty"`
	Address  *Address   `json:"address,omitempty"` // in the file's own numbering
}

// FaultObject is a signal, and why it was sent.
type FaultObject struct {
	Signal   string     `json:"signal,omitempty"`
	Code     *int       `json:"code,omitempty"` // si_code
	CodeName string     `json:"code_name,omitempty"`
	Access   string     `json:"access,omitempty"`
	Inferred bool       `json:"access_inferred,omitempty"`
	Error    *Address   `json:"error,omitempty"` // of a page fault on x86
	TID      int        `json:"tid,omitempty"`
	Comm     table.Name `json:"comm,omitempty"`
	IP       *Address   `json:"ip,omitempty"`
	SP       *Address   `json:"sp,omitempty"`
	Sender   int        `json:"sender,omitempty"`
	Reason   string     `json:"reason,omitempty"`
	Why      string     `json:"why"`
}

// WriteExplanationJSON prints an explanation as one object. Without an address it has none
// of an [AddressObject].
func WriteExplanationJSON(w io.Writer, e *Explanation) error {
	o := ExplanationObject{Event: "explanation", Source: e.Source, PID: e.PID, Comm: table.Name(e.Comm)}
	switch {
	case e.Answer == nil:
		o.Fault = faultObject(e.Fault, nil, e.PID)
	case e.Answer.Fault != nil:
		o.Fault = faultObject(e.Answer.Fault, e.Answer, e.PID)
		fallthrough
	default:
		o.AddressObject = addressObject(e.Answer)
	}
	if e.At != nil {
		o.Instruction = addressObject(e.At)
	}
	return json.NewEncoder(table.JSONWriter(w)).Encode(&o)
}

func addressObject(a *explain.Answer) *AddressObject {
	o := &AddressObject{
		Address: Address(a.Address), Tag: a.Tag, What: a.What.String(), Sentence: sentence(a), TID: a.TID,
		PageWhy: table.Escape(a.PageWhy), SymbolWhy: table.Escape(a.SymbolWhy), Missing: table.Escape(a.Missing),
	}
	if a.Row != nil {
		m := mappingObject(a.Row, &a.Purpose)
		o.Mapping, o.Into = &m, &a.Into
	}
	if a.File {
		o.FileOffset = &a.FileOffset
	}
	if a.FileKnown {
		o.FileSize = &a.FileBytes
	}
	if p := a.Page; p != nil {
		o.Page = &PageObject{
			Present: p.Present, Swapped: p.Swapped, File: p.File, Exclusive: p.Exclusive, Guard: p.Guard, SoftDirty: p.SoftDirty,
		}
		if p.Scanned {
			o.Page.Huge, o.Page.Zero = &p.Huge, &p.Zero
		}
	}
	if s := a.Symbol; s != nil {
		o.Symbol = &SymbolObject{Function: table.Name(s.Function), File: table.Name(s.File), Line: s.Line}
		if s.Function != "" {
			o.Symbol.Offset = &s.Offset
		}
		if s.Numbered {
			o.Symbol.Address = (*Address)(&s.Address)
		}
	}
	if a.StackLimit != 0 && a.StackLimit != procmaps.Unlimited {
		o.StackLimit = &a.StackLimit
	}
	o.Below, o.Above = neighbourObject(a.Below), neighbourObject(a.Above)
	return o
}

func mappingObject(r *explain.Row, p *procmaps.Purpose) MappingObject {
	o := MappingObject{
		Start: Address(r.Start), End: Address(r.End), Size: r.Len(), Mode: r.ModeText(), Inode: r.Inode,
		Kind: r.Kind().String(), Role: p.Role.String(), Inferred: p.Inferred, TID: p.TID, Mapping: table.Name(r.Name),
	}
	if !r.NoOffset {
		o.Offset = &r.Offset
	}
	if r.Dev != (procmaps.Device{}) {
		o.Device = r.Dev.String()
	}
	return o
}

func neighbourObject(n *explain.Neighbour) *NeighbourObject {
	if n == nil {
		return nil
	}
	return &NeighbourObject{mappingObject(n.Row, &n.Purpose), n.Distance}
}

// faultObject is a fault of a process, with what there is to say of its address.
func faultObject(f *explain.Fault, a *explain.Answer, pid int) *FaultObject {
	o := &FaultObject{
		Signal: f.SignalName(), CodeName: f.CodeName(), Access: f.Access.String(), Inferred: f.Inferred,
		TID: f.TID, Comm: table.Name(f.Comm), Sender: f.Sender,
	}
	if f.HasCode {
		o.Code = &f.Code
	}
	if f.HasError {
		o.Error = (*Address)(&f.Error)
	}
	if f.HasIP {
		o.IP = (*Address)(&f.IP)
		if f.SP != 0 {
			o.SP = (*Address)(&f.SP)
		}
	}
	if a == nil {
		o.Why = unaddressed(f, pid)
		return o
	}
	o.Reason, o.Why = a.Reason.String(), whyText(a)
	return o
}
