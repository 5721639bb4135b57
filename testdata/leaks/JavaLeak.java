// SPDX-License-Identifier: Apache-2.0

import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.List;

/**
 * A Java program with one leak and some innocents: garbage, and a cache of fixed size.
 *
 * <pre>java JavaLeak direct|threads SECONDS BYTES_PER_SECOND</pre>
 *
 * "direct" keeps direct buffers, "threads" starts threads that never end, of which each uses about
 * 96 KiB of its stack.
 */
public final class JavaLeak {
    private static final int PIECE = 256 * 1024;
    private static final int STACK = 96 * 1024;

    private static final List<ByteBuffer> kept = new ArrayList<>();
    private static final byte[][] cache = new byte[64][];
    private static volatile Object last;

    private static long leakDirect(long size) {
        long done = 0;
        for (; done < size; done += PIECE) {
            ByteBuffer b = ByteBuffer.allocateDirect(PIECE); // zeroed, and so touched
            kept.add(b);
        }
        return done;
    }

    private static long leakThreads(long size) {
        long done = 0;
        for (; done < size; done += STACK) {
            Thread t = new Thread(null, () -> descend(400), "idle", 512 * 1024);
            t.setDaemon(true);
            t.start();
        }
        return done;
    }

    /** Uses some stack, and stays there. */
    private static long descend(int depth) {
        if (depth > 0) {
            return descend(depth - 1) + 1;
        }
        for (;;) {
            try {
                Thread.sleep(1_000_000);
            } catch (InterruptedException e) {
                throw new IllegalStateException(e);
            }
        }
    }

    private static void churn() {
        last = new byte[PIECE];
    }

    private static void cachePut(int i) {
        cache[i % cache.length] = new byte[16 * 1024];
    }

    public static void main(String[] args) throws InterruptedException {
        if (args.length != 3) {
            System.err.println("usage: JavaLeak direct|threads SECONDS BYTES_PER_SECOND");
            System.exit(2);
        }
        boolean direct = args[0].equals("direct");
        double seconds = Double.parseDouble(args[1]);
        double rate = Double.parseDouble(args[2]);
        System.out.println("ready");
        long began = System.nanoTime();
        long done = 0;
        for (int i = 0;; i++) {
            double t = (System.nanoTime() - began) / 1e9;
            if (t >= seconds) {
                return;
            }
            long due = (long) (t * rate);
            if (due > done) {
                done += direct ? leakDirect(due - done) : leakThreads(due - done);
            }
            churn();
            cachePut(i);
            Thread.sleep(20);
        }
    }
}
