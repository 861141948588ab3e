// Receives Postern's callbacks and believes only those that are signed. JDK 17+, standard library only.
//
//     PORT=8080 EVENT_NOTIFICATION_SIGNATURE_KEY=... java Receiver.java
//
// The key may be several, one a line. To change it without a gap: give the receiver both, then Postern the new one, then
// take the old one from the receiver.
//
// Answers 200 for what is proven and printed, 401 for what is not; Postern sends again whatever was not answered with 2xx.

import com.sun.net.httpserver.Headers;
import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.security.GeneralSecurityException;
import java.security.MessageDigest;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Base64;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.Executors;
import java.util.stream.Stream;
import javax.crypto.Mac;
import javax.crypto.spec.SecretKeySpec;

public final class Receiver {
    private static final int MAX_BODY = 8 * 1024 * 1024; // twenty events of the largest notification, and room
    private static final long MAX_AGE = 5 * 60; // seconds, in both directions: an older callback is a replay
    private static final int REMEMBERED = 10_000; // ids; Postern delivers at least once, so the same id can come again

    private final List<SecretKeySpec> keys;

    // The last ids that were handled, oldest first. An app keeps them where it keeps what it did, in one transaction.
    private final Set<String> seen = new LinkedHashSet<>();

    private Receiver(List<String> keys) {
        this.keys = keys.stream()
                .map(key -> new SecretKeySpec(key.getBytes(StandardCharsets.UTF_8), "HmacSHA256"))
                .toList();
    }

    public static void main(String[] args) throws IOException {
        String given = System.getenv().getOrDefault("EVENT_NOTIFICATION_SIGNATURE_KEY", "");
        List<String> keys = Stream.of(given.split("\n")).filter(key -> !key.isEmpty()).toList();
        if (keys.isEmpty()) {
            System.err.println("set EVENT_NOTIFICATION_SIGNATURE_KEY to the key that Postern signs with");
            System.exit(1);
        }
        int port = Integer.parseInt(System.getenv().getOrDefault("PORT", "8080"));
        // Postern is beside the app: nobody else needs to reach this port.
        HttpServer server = HttpServer.create(new InetSocketAddress(InetAddress.getByName("127.0.0.1"), port), 0);
        server.setExecutor(Executors.newFixedThreadPool(8));
        Receiver receiver = new Receiver(keys);
        server.createContext("/", exchange -> {
            try (exchange) {
                exchange.sendResponseHeaders(receiver.receive(exchange), -1);
            } catch (GeneralSecurityException e) {
                throw new IOException(e);
            }
        });
        server.start();
        System.out.println("listening on http://127.0.0.1:" + server.getAddress().getPort());
    }

    private int receive(HttpExchange exchange) throws IOException, GeneralSecurityException {
        if (!exchange.getRequestMethod().equals("POST")) {
            return 405;
        }
        byte[] body = exchange.getRequestBody().readNBytes(MAX_BODY + 1);
        if (body.length > MAX_BODY) {
            return 413;
        }
        if (!isGenuine(exchange.getRequestHeaders(), body, Instant.now().getEpochSecond())) {
            return 401;
        }
        try {
            handleOnce(header(exchange.getRequestHeaders(), "webhook-id"), body);
        } catch (RuntimeException e) {
            return 400; // Signed, and not what this program can read.
        }
        return 200;
    }

    /** Whether both signatures are right. {@code body} must be the bytes as they came: never parse and print them before. */
    private boolean isGenuine(Headers headers, byte[] body, long now) throws GeneralSecurityException {
        // Cloud Elements' signature covers the body alone.
        boolean signed = false;
        for (SecretKeySpec key : keys) {
            signed |= isSigned(key, body, header(headers, "Elements-Webhook-Signature"));
        }
        if (!signed) {
            return false;
        }
        // Standard Webhooks' covers id and time too, which is what stops replays. There is one for each key of Postern's.
        String id = header(headers, "webhook-id");
        String timestamp = header(headers, "webhook-timestamp");
        if (!timestamp.matches("[0-9]{1,15}") || Math.abs(now - Long.parseLong(timestamp)) > MAX_AGE) {
            return false;
        }
        byte[] before = (id + "." + timestamp + ".").getBytes(StandardCharsets.UTF_8);
        return fitsAny(header(headers, "webhook-signature"), before, body);
    }

    /** Whether one of the signatures in {@code given} is by one of our keys. */
    private boolean fitsAny(String given, byte[]... parts) throws GeneralSecurityException {
        boolean fits = false;
        for (SecretKeySpec key : keys) {
            String expected = "v1," + hmac(key, parts);
            for (String one : given.split(" ")) {
                fits |= same(expected, one); // Every pair is compared, so that the time does not tell which one fits.
            }
        }
        return fits;
    }

    private static boolean isSigned(SecretKeySpec key, byte[] body, String header) throws GeneralSecurityException {
        return same("sha256=" + hmac(key, body), header);
    }

    private static String hmac(SecretKeySpec key, byte[]... parts) throws GeneralSecurityException {
        Mac mac = Mac.getInstance("HmacSHA256");
        mac.init(key);
        for (byte[] part : parts) {
            mac.update(part);
        }
        return Base64.getEncoder().encodeToString(mac.doFinal());
    }

    /** Compares in time that depends on the lengths alone. */
    private static boolean same(String expected, String given) {
        return MessageDigest.isEqual(expected.getBytes(StandardCharsets.UTF_8), given.getBytes(StandardCharsets.UTF_8));
    }

    private static String header(Headers headers, String name) {
        String value = headers.getFirst(name);
        return value == null ? "" : value;
    }

    private synchronized void handleOnce(String id, byte[] body) {
        if (seen.contains(id)) {
            return;
        }
        printEvents(body); // A handler that fails leaves no trace, and the event comes again.
        seen.add(id);
        if (seen.size() > REMEMBERED) {
            seen.remove(seen.iterator().next());
        }
    }

    private static void printEvents(byte[] body) {
        Map<?, ?> envelope = (Map<?, ?>) new Json(new String(body, StandardCharsets.UTF_8)).document();
        Map<?, ?> message = (Map<?, ?>) envelope.get("message");
        for (Object each : (List<?>) message.get("events")) {
            Map<?, ?> event = (Map<?, ?>) each;
            // Keys may hold anything, line breaks too: quoted they stay on one line.
            String object = Json.quote((String) event.get("objectId"));
            System.out.println(
                    event.get("eventType") + " " + event.get("objectType") + " " + object + " " + message.get("eventId"));
        }
    }

    /** The JDK reads no JSON; an app uses its own library. Numbers stay text. */
    private static final class Json {
        private final String text;
        private int at;

        Json(String text) {
            this.text = text;
        }

        Object document() {
            Object value = value();
            if (next() != 0) {
                throw new IllegalArgumentException("text after the document");
            }
            return value;
        }

        private Object value() {
            switch (next()) {
                case '{': {
                    Map<String, Object> object = new LinkedHashMap<>();
                    at++;
                    while (next() != '}') {
                        String name = string();
                        expect(':');
                        object.put(name, value());
                        if (next() != '}') {
                            expect(',');
                        }
                    }
                    at++;
                    return object;
                }
                case '[': {
                    List<Object> array = new ArrayList<>();
                    at++;
                    while (next() != ']') {
                        array.add(value());
                        if (next() != ']') {
                            expect(',');
                        }
                    }
                    at++;
                    return array;
                }
                case '"':
                    return string();
                default: {
                    int from = at;
                    while (at < text.length() && "{}[],:\" \t\r\n".indexOf(text.charAt(at)) < 0) {
                        at++;
                    }
                    if (at == from) {
                        throw new IllegalArgumentException("no value at " + at);
                    }
                    return text.substring(from, at);
                }
            }
        }

        private String string() {
            expect('"');
            StringBuilder out = new StringBuilder();
            while (text.charAt(at) != '"') {
                char c = text.charAt(at++);
                if (c == '\\') {
                    c = text.charAt(at++);
                    switch (c) {
                        case 'b' -> c = '\b';
                        case 'f' -> c = '\f';
                        case 'n' -> c = '\n';
                        case 'r' -> c = '\r';
                        case 't' -> c = '\t';
                        case 'u' -> {
                            c = (char) Integer.parseInt(text.substring(at, at + 4), 16);
                            at += 4;
                        }
                        default -> { }
                    }
                }
                out.append(c);
            }
            at++;
            return out.toString();
        }

        /** The next character that is no blank, or 0 at the end. */
        private char next() {
            while (at < text.length() && " \t\r\n".indexOf(text.charAt(at)) >= 0) {
                at++;
            }
            return at < text.length() ? text.charAt(at) : 0;
        }

        private void expect(char wanted) {
            if (next() != wanted) {
                throw new IllegalArgumentException("no " + wanted + " at " + at);
            }
            at++;
        }

        static String quote(String text) {
            StringBuilder out = new StringBuilder("\"");
            for (char c : text.toCharArray()) {
                if (c == '"' || c == '\\') {
                    out.append('\\').append(c);
                } else if (c < ' ' || c == 0x7f) {
                    out.append(String.format("\\u%04x", (int) c));
                } else {
                    out.append(c);
                }
            }
            return out.append('"').toString();
        }
    }
}
