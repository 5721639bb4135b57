package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/testdata/tool"
)

// completed is what the last word of a command line may become, and what the shell is told.
func completed(t *testing.T, words ...string) (all []string, directive cobra.ShellCompDirective) {
	t.Helper()
	r := inProcess(t, append([]string{cobra.ShellCompRequestCmd}, words...)...)
	lines := strings.Split(strings.TrimSuffix(r.out, "\n"), "\n")
	last := len(lines) - 1
	n, err := strconv.Atoi(strings.TrimPrefix(lines[last], ":"))
	if err != nil || r.code != exitOK {
		t.Fatalf("%q: exit code %d, %q, %q", words, r.code, r.out, r.stderr)
	}
	return lines[:last], cobra.ShellCompDirective(n)
}

// commOf is the name of a process.
func commOf(t *testing.T, pid string) string {
	t.Helper()
	text, err := os.ReadFile("/proc/" + pid + "/comm")
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSuffix(string(text), "\n")
}

func TestWordsAreCompleted(t *testing.T) {
	t.Parallel()
	h := startHelper(t, "calls", "/dev/null")
	comm := commOf(t, h.pid())
	const files = cobra.ShellCompDirectiveDefault
	for _, tt := range []struct {
		line string // its last word is what is completed
		want string // is offered, with the beginning of its description
		not  string // is not
		how  cobra.ShellCompDirective
	}{
		{"grow |", h.pid() + "\t" + comm + ", ", strconv.Itoa(os.Getpid()) + "\t", noFiles | cobra.ShellCompDirectiveKeepOrder},
		{"trace -p |", h.pid() + "\t" + comm + ", ", "", noFiles | cobra.ShellCompDirectiveKeepOrder},
		{"grow " + h.pid() + " |", "", h.pid() + "\t", noFiles | cobra.ShellCompDirectiveKeepOrder},
		{"lat -p " + h.pid() + " |", "", h.pid() + "\t", noFiles | cobra.ShellCompDirectiveKeepOrder},
		{"pmap -x |", h.pid() + "\t" + comm + ", ", "", noFiles | cobra.ShellCompDirectiveKeepOrder},
		{h.pid()[:1] + "|", h.pid() + "\t" + comm + ", ", "", noFiles | cobra.ShellCompDirectiveKeepOrder},
		{"explain |", "", h.pid(), noFiles},
		{"explain 0x7f00 |", h.pid() + "\t" + comm + ", ", "", noFiles | cobra.ShellCompDirectiveKeepOrder},
		{"explain 0x7f00 " + h.pid() + " |", "", h.pid(), noFiles},
		{"explain --core |", "", "", files},
		{"explain --core core 0x7f00 |", "", h.pid(), noFiles},
		{"trace -- |", "", h.pid(), files},
		{"trace --json -- make |", "", h.pid(), files},
		{"grow --comm |", comm + "\t", "", noFiles},
		{"trace --tid | " + h.pid(), h.pid() + "\tof " + h.pid(), "", noFiles},
		{"trace --op |", "mmap", "", goesOn},
		{"trace --op mmap,|", "mmap,brk", "mmap,mmap", goesOn},
		{"trace --kind anon,|", "anon,heap", "anon,anon", goesOn},
		{"grow --fail-on |", "growth > 10MiB/min", "", noFiles},
		{"grow --for |", "1m", "", noFiles},
		{"demo --for 5|", "5s\tseconds", "", noFiles},
		{"trace --min-size 10|", "10M\tMiB", "", noFiles},
		{"trace --poll=50|", "50ms\tmilliseconds", "", noFiles},
		{"grow --heap-budget |", "0.5", "", noFiles},
		{"lat -o |", "json", "", noFiles},
		{"grow --top |", "", "1", noFiles},
		{"grow --to |", "", "", files},
		{"grow --fo|", "--for\twatch for this TIME", "--duration", noFiles},
		{"grow --o|", "", "--output", noFiles},
		{"doctor |", "", h.pid(), noFiles},
		{"doctor --j|", "--json\tprint JSON", "", noFiles},
		{"version |", "", h.pid(), noFiles},
		{"pmap --gr|", "--group\tadd rows up", "", noFiles},
		{"pmap -|", "-X\twhat smaps has", "", noFiles},
		{"pmap --group |", "kind", "", noFiles},
		{"pmap --group=|", "--group=path", "", noFiles},
		{"pmap --kind anon,|", "anon,file", "anon,anon", goesOn},
		{"pmap --kind=anon,|", "--kind=anon,file", "", goesOn},
		{"pmap --sort |", "rss", "", noFiles},
		{"pmap --watch 2|", "2s\tseconds", "", noFiles},
		{"pmap --compat |", "4.0.2", "", noFiles},
		{"pmap --top |", "", h.pid(), noFiles},
		{"pmap -C |", "", h.pid(), files},
		{"pmap -qC |", "", h.pid(), files},
		{"pmap --json=|", "", "", noFiles},
		{"help gr|", "growth\t", "", noFiles},
	} {
		// What comes behind the word that is completed is before it on the line of cobra.
		before, behind, _ := strings.Cut(tt.line, "|")
		begun := before[strings.LastIndexByte(before, ' ')+1:]
		words := strings.Fields(strings.TrimSuffix(before, begun))
		if behind != "" {
			words = append(words[:len(words)-1], strings.Fields(behind)[0], words[len(words)-1])
		}
		all, how := completed(t, append(words, begun)...)
		if how != tt.how {
			t.Errorf("%s: directive %d, want %d", tt.line, how, tt.how)
		}
		offers := func(begin string) bool {
			return slices.ContainsFunc(all, func(line string) bool { return strings.HasPrefix(line, begin) })
		}
		if tt.want != "" && !offers(tt.want) || tt.not != "" && offers(tt.not) {
			t.Errorf("%s: want %q and not %q:\n%s", tt.line, tt.want, tt.not, strings.Join(all, "\n"))
		}
	}
	for _, k := range procmaps.KindNames() {
		if _, err := procmaps.ParseKind(k); err != nil {
			t.Errorf("%s is offered, and %v", k, err)
		}
	}
}

func TestNoNameThatIsOfferedIsOneAShellObeys(t *testing.T) {
	t.Parallel()
	for _, word := range []string{"", "-x", "a b", "$(id)", "`id`", "a;b", "a'b", `a"b`, "a\nb", "a\tb", "a\x1b[1m", "a*", "~a", "a&", "a|b", "a>b", "{a,b}", "a\\"} {
		if harmless(word) {
			t.Errorf("%q is offered", word)
		}
	}
	for _, word := range []string{"nginx", "kworker/0:1", "a.b-c_d+e@f", "/system.slice/ssh.service", "größe"} {
		if !harmless(word) {
			t.Errorf("%q is not offered", word)
		}
	}
	if got := described("a b,$(id)`\x1b\t"); got != "a b,??id????" {
		t.Errorf("described as %q", got)
	}
	// One that is called so is there.
	dir := t.TempDir()
	evil := filepath.Join(dir, "$(id>x)")
	sleep, err := exec.LookPath("sleep")
	if err == nil {
		err = os.Symlink(sleep, evil)
	}
	if err != nil {
		t.Fatal(err)
	}
	p := launch(t, exec.Command(evil, "100"))
	eventually(t, "it is called so", func() bool { return commOf(t, strconv.Itoa(p.Process.Pid)) == "$(id>x)" })
	for _, words := range [][]string{{"grow", ""}, {"grow", "--comm", ""}} {
		if all, _ := completed(t, words...); strings.ContainsAny(strings.Join(all, ""), "$`>") {
			t.Errorf("%q offers:\n%s", words, strings.Join(all, "\n"))
		}
	}
}

// shellScripts make the shells complete lines, the last arguments, as at a key, and print what
// is on the line or offered then. The first is the directory of the program and of its
// completions; behind each line is what is waited for, each after a bar.
var shellScripts = map[string]string{
	"bash": `
source /usr/share/bash-completion/bash_completion
dir=$1; shift
PATH=$dir:$PATH
source $dir/bash
for line; do
	line=${line%%|*}
	COMP_LINE=$line COMP_POINT=${#line} COMP_TYPE=9 COMP_KEY=9
	read -ra COMP_WORDS <<<"$line"
	[[ $line == *' ' ]] && COMP_WORDS+=('')
	COMP_CWORD=$((${#COMP_WORDS[@]}-1))
	COMPREPLY=()
	compopt() { :; }
	__start_maptrace
	printf '%s:' "$line"
	printf ' <%s>' "${COMPREPLY[@]}"
	echo
done`,
	"fish": `
set dir $argv[1]
set -x PATH $dir $PATH
source $dir/fish
for line in (string replace -r '[|].*' '' $argv[2..])
	printf '%s:' $line
	for word in (complete --do-complete $line)
		printf ' <%s>' $word
	end
	echo
end`,
	"zsh": `
zmodload zsh/zpty
dir=$1; shift
for line; do
	zpty z zsh -f -i
	zpty -w z "PATH=$dir:\$PATH; PS1=; fpath=($dir/functions \$fpath); autoload -Uz compinit; compinit -u -d $dir/dump; setopt auto_list no_list_beep; unsetopt list_ambiguous auto_menu; bindkey '^I' complete-word; LISTMAX=10000; stty cols 200 rows 1000; echo READY"
	zpty -r z text "*READY*READY*"
	zpty -n -w z "${line%%|*}"$'\t'
	text=
	for i in {1..200}; do
		while zpty -r -t z more; do text+=$more; done
		missing=0
		for word in ${(s:|:)line#*|}; do [[ $text == *$word* ]] || missing=1; done
		(( missing )) || break
		sleep 0.1
	done
	zpty -d z
	print -r -- "${line%%|*}: ${text//[^[:print:]]/ }"
done`,
}

func TestCompletionInTheShells(t *testing.T) {
	t.Parallel()
	h := startHelper(t, "calls", "/dev/null")
	comm := commOf(t, h.pid())
	for shell, script := range shellScripts {
		t.Run(shell, func(t *testing.T) {
			t.Parallel()
			path, err := tool.Path(shell)
			if err != nil {
				t.Skip(err)
			}
			if _, err := os.Stat("/usr/share/bash-completion/bash_completion"); err != nil && shell == "bash" {
				t.Skip("the package bash-completion is not installed")
			}
			dir := t.TempDir()
			completions := filepath.Join(dir, shell)
			if shell == "zsh" {
				completions = filepath.Join(dir, "functions", "_maptrace")
			}
			text := inProcess(t, "completion", shell).out
			if err := os.MkdirAll(filepath.Dir(completions), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(completions, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(binary(t), filepath.Join(dir, "maptrace")); err != nil {
				t.Fatal(err)
			}
			wants := map[string][]string{
				"maptrace do": {"doctor"},
				"maptrace grow --comm " + comm[:len(comm)-1]: {comm},
				"maptrace trace --kind ":                     {"anon", "special"},
				"maptrace trace --op munma":                  {"munmap"},
				"maptrace trace --min-size 7":                {"7K", "7G"},
				"maptrace pmap --gro":                        {"--group"},
				"maptrace pmap --sort ":                      {"rss", "pss"},
				"maptrace grow " + h.pid()[:len(h.pid())-1]:  {h.pid()},
			}
			var lines []string
			for line, words := range wants {
				lines = append(lines, line+"|"+strings.Join(words, "|"))
			}
			args := append([]string{"-c", script, shell, dir}, lines...)
			if shell == "fish" {
				args = append([]string{"-c", script, dir}, lines...)
			}
			cmd := exec.Command(path, args...)
			cmd.Env = append(os.Environ(), "HOME="+dir, "TERM=dumb")
			r := launch(t, cmd).result()
			for line, words := range wants {
				_, offered, ok := strings.Cut("\n"+r.out, "\n"+line+":")
				offered, _, _ = strings.Cut(offered, "\n")
				for _, word := range words {
					if !ok || !strings.Contains(offered, word) {
						t.Errorf("%q offers no %s: %q\n%s", line, word, offered, r.stderr)
					}
				}
			}
		})
	}
}
