#!/bin/sh
# needs: java
cat >Buffers.java <<'J'
import java.nio.ByteBuffer;
import java.util.*;
public class Buffers {
	public static void main(String[] args) throws Exception {
		List<ByteBuffer> kept = new ArrayList<>();
		List<byte[]> heap = new LinkedList<>();
		for (int i = 0;; i++) {
			ByteBuffer b = ByteBuffer.allocateDirect(1 << 18);
			if (i % 4 == 0) kept.add(b);
			if (kept.size() > 200) kept.subList(0, 100).clear();
			heap.add(new byte[1 << 16]);
			if (heap.size() > 500) heap.remove(0);
			Thread.sleep(5);
		}
	}
}
J
exec java -Xmx128m Buffers.java
