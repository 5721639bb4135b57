package attribution

import (
	"testing"

	"github.com/maptrace/maptrace/tracer/growth"
)

func TestRuntimesAreKnownByTheirFiles(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		exe, file string
		want      Runtime
		version   string
	}{
		{"/usr/bin/python3.11", "", CPython, "3.11"},
		{"/opt/py/bin/python3.13t", "", CPython, "3.13"},
		{"/usr/bin/uwsgi", "/usr/lib/x86_64-linux-gnu/libpython3.12.so.1.0", CPython, "3.12"},
		{"/usr/bin/python", "", CPython, ""},
		{"/usr/bin/node", "", Node, ""},
		{"/usr/share/code/code", "/usr/lib/libnode.so.108", Node, ""},
		{"/usr/lib/jvm/java-17-openjdk-amd64/bin/java", "", JVM, ""},
		{"/opt/app/launcher", "/opt/jre/lib/server/libjvm.so", JVM, ""},
		{"/usr/bin/ruby3.1", "", Ruby, "3.1"},
		{"/usr/bin/puma", "/usr/lib/libruby-3.3.so.3.3", Ruby, "3.3"},
		{"/usr/sbin/php-fpm8.2", "", PHP, "8.2"},
		{"/usr/sbin/apache2", "/usr/lib/apache2/modules/libphp8.2.so", PHP, "8.2"},
		{"/usr/lib/erlang/erts-13.1.5/bin/beam.smp", "", BEAM, ""},
		{"/usr/share/dotnet/dotnet", "", DotNET, ""},
		{"/usr/sbin/nginx", "/usr/share/python3.11.txt", Native, ""},
		{"", "/usr/bin/nodejs-helper", Native, ""},
		{"/usr/bin/javad", "", Native, ""},
		{"/usr/bin/phpmd", "", Native, ""},
		{"/usr/bin/python3.11", "/opt/lib/libpython3.12.so", CPython, "3.11"},
		{"/usr/lib/java", "", JVM, ""},
		{"/usr/bin/libjvm", "", Native, ""},
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
