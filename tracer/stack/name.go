package stack

// Name is what a place in a program is called: a function, with its file and line where
// they are known. Names are as the program has them: not escaped.
type Name struct {
	Full  string // for programs
	Short string // for people, who read neither template arguments nor import paths
	// Module is the name of the file that its code is in; "" if that is not known.
	Module string
}

// Plain is a name that is no shorter for people.
func Plain(name string) Name { return Name{Full: name, Short: name} }
