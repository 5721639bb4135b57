package attribution

import (
	"testing"

	"github.com/maptrace/maptrace/tracer/growth"
	"github.com/maptrace/maptrace/tracer/stack"
)

func TestRuntimesAreKnownByTheirFiles(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		exe, file string
		want      stack.Runtime
		version   string
	}{
		{"/usr/bin/python3.11", "", stack.CPython, "3.11"},
		{"/opt/py/bin/python3.13t", "", stack.CPython, "3.13"},
		{"/usr/bin/uwsgi", "/usr/lib/x86_64-linux-gnu/libpython3.12.so.1.0", stack.CPython, "3.12"},
		{"/usr/bin/python", "", stack.CPython, ""},
		{"/usr/bin/python3.11-dbg", "", stack.CPython, "3.11"},
		{"/usr/bin/node", "", stack.Node, ""},
		{"/usr/bin/node_exporter", "", stack.Native, ""},
		{"/usr/share/code/code", "/usr/lib/libnode.so.108", stack.Node, ""},
		{"/usr/lib/jvm/java-17-openjdk-amd64/bin/java", "", stack.JVM, ""},
		{"/opt/app/launcher", "/opt/jre/lib/server/libjvm.so", stack.JVM, ""},
		{"/usr/bin/ruby3.1", "", stack.Ruby, "3.1"},
		{"/usr/bin/puma", "/usr/lib/libruby-3.3.so.3.3", stack.Ruby, "3.3"},
		{"/usr/sbin/php-fpm8.2", "", stack.PHP, "8.2"},
		{"/usr/sbin/apache2", "/usr/lib/apache2/modules/libphp8.2.so", stack.PHP, "8.2"},
		{"/usr/lib/erlang/erts-13.1.5/bin/beam.smp", "", stack.BEAM, ""},
		{"/usr/share/dotnet/dotnet", "", stack.DotNET, ""},
		{"/usr/sbin/nginx", "/usr/share/python3.11.txt", stack.Native, ""},
		{"", "/usr/bin/nodejs-helper", stack.Native, ""},
		{"/usr/bin/javad", "", stack.Native, ""},
		{"/usr/bin/phpmd", "", stack.Native, ""},
		{"/usr/bin/python3.11", "/opt/lib/libpython3.12.so", stack.CPython, "3.11"},
		{"/usr/lib/java", "", stack.JVM, ""},
		{"/usr/bin/libjvm", "", stack.Native, ""},
	} {
		p := Process{Exe: tt.exe}
		f := Finding{}
		f.What, f.Name = growth.File, tt.file
		p.Findings = []Finding{{}, f}
		if got, version := p.Runtime(); got != tt.want || version != tt.version {
			t.Errorf("%s with %s: %d %q, want %d %q", tt.exe, tt.file, got, version, tt.want, tt.version)
		}
	}
}
