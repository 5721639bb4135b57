// SPDX-License-Identifier: Apache-2.0

import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/** A service that keeps each session, amid requests that keep nothing. */
public final class Sessions {
    private static final Map<Integer, Session> sessions = new HashMap<>();
    private static volatile Object last;

    private static final class Session {
        final int number;
        final byte[] state = new byte[2048];
        final List<String> cart = new ArrayList<>();

        Session(int number) {
            this.number = number;
            for (int i = 0; i < 20; i++) {
                cart.add("item " + number + " " + i);
            }
        }
    }

    private static int[] parse(int number) {
        int[] items = new int[2000];
        for (int i = 0; i < items.length; i++) {
            items[i] = number + i;
        }
        return items;
    }

    private static String render(int[] items) {
        StringBuilder page = new StringBuilder();
        for (int i = 0; i < 200; i++) {
            page.append("<li>").append(items[i]).append("</li>");
        }
        return page.toString();
    }

    private static void login(int number) {
        sessions.put(number, new Session(number));
    }

    private static void serve(int number) {
        int[] request = parse(number);
        if (number % 2 == 0) {
            login(number);
        }
        last = render(request);
    }

    public static void main(String[] args) throws InterruptedException {
        for (int number = 0;;) {
            for (int i = 0; i < 20; i++) {
                serve(number++);
            }
            Thread.sleep(20);
        }
    }
}
