/*
 * DTLS client of Java's JSSE: `java Jsse HOST PORT PKCS12 [max-fragment=512] [resume]`.
 *
 * Standard input and output are one socket of datagrams: each read is a datagram to send, and each datagram
 * received is one write. With `resume`, it connects, closes, and resumes that session.
 */
import java.io.FileInputStream;
import java.io.FileOutputStream;
import java.io.FileDescriptor;
import java.net.InetSocketAddress;
import java.net.PortUnreachableException;
import java.nio.ByteBuffer;
import java.nio.channels.DatagramChannel;
import java.security.KeyStore;
import java.security.SecureRandom;
import java.security.cert.X509Certificate;
import java.util.Arrays;
import java.util.List;
import javax.net.ssl.KeyManagerFactory;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLEngine;
import javax.net.ssl.SSLEngineResult;
import javax.net.ssl.SSLEngineResult.HandshakeStatus;
import javax.net.ssl.SSLParameters;
import javax.net.ssl.SSLSession;
import javax.net.ssl.TrustManager;
import javax.net.ssl.X509ExtendedTrustManager;

class Jsse {
    static final int DATAGRAM = 32768;
    static final int RECORD_OVERHEAD = 88;

    /** No certificate authority signs the device's key. */
    static class AnyCertificate extends X509ExtendedTrustManager {
        public void checkClientTrusted(X509Certificate[] chain, String type) {}
        public void checkServerTrusted(X509Certificate[] chain, String type) {}
        public void checkClientTrusted(X509Certificate[] chain, String type, java.net.Socket socket) {}
        public void checkServerTrusted(X509Certificate[] chain, String type, java.net.Socket socket) {}
        public void checkClientTrusted(X509Certificate[] chain, String type, SSLEngine engine) {}
        public void checkServerTrusted(X509Certificate[] chain, String type, SSLEngine engine) {}
        public X509Certificate[] getAcceptedIssuers() { return new X509Certificate[0]; }
    }

    final SSLEngine engine;
    final DatagramChannel channel;
    final ByteBuffer empty = ByteBuffer.allocate(0);

    Jsse(SSLContext context, InetSocketAddress server, boolean small) throws Exception {
        channel = DatagramChannel.open().connect(server);
        engine = context.createSSLEngine(server.getHostString(), server.getPort());
        engine.setUseClientMode(true);
        SSLParameters parameters = engine.getSSLParameters();
        parameters.setProtocols(new String[] {"DTLSv1.2"});
        parameters.setMaximumPacketSize(small ? 512 + RECORD_OVERHEAD : 1400);
        engine.setSSLParameters(parameters);
    }

    ByteBuffer receive() throws Exception {
        ByteBuffer data = ByteBuffer.allocate(DATAGRAM);
        channel.read(data);
        return data.flip();
    }

    synchronized void send(ByteBuffer plain) throws Exception {
        ByteBuffer data = ByteBuffer.allocate(DATAGRAM);
        engine.wrap(plain, data);
        if (data.flip().hasRemaining()) {
            channel.write(data);
        }
    }

    void handshake() throws Exception {
        ByteBuffer received = ByteBuffer.allocate(0);
        engine.beginHandshake();
        while (true) {
            switch (engine.getHandshakeStatus()) {
                case NEED_TASK -> engine.getDelegatedTask().run();
                case NEED_WRAP -> send(empty);
                case NEED_UNWRAP, NEED_UNWRAP_AGAIN -> {
                    if (!received.hasRemaining() && engine.getHandshakeStatus() == HandshakeStatus.NEED_UNWRAP) {
                        received = receive();
                    }
                    engine.unwrap(received, ByteBuffer.allocate(DATAGRAM));
                }
                default -> {
                    SSLSession session = engine.getSession();
                    System.err.println("connected: " + session.getProtocol() + " " + session.getCipherSuite());
                    return;
                }
            }
        }
    }

    void close() throws Exception {
        engine.closeOutbound();
        send(empty);
        channel.close();
    }

    void carry() throws Exception {
        FileOutputStream out = new FileOutputStream(FileDescriptor.out);
        Thread inwards = new Thread(() -> {
            try {
                while (true) {
                    ByteBuffer received = receive();
                    while (received.hasRemaining()) {
                        ByteBuffer plain = ByteBuffer.allocate(DATAGRAM);
                        SSLEngineResult result;
                        synchronized (this) {
                            result = engine.unwrap(received, plain);
                        }
                        if (plain.position() > 0) {
                            out.write(plain.array(), 0, plain.position());
                        } else if (result.bytesConsumed() == 0) {
                            break;
                        }
                    }
                }
            } catch (Exception error) {
                System.err.println(error);
            }
        });
        inwards.setDaemon(true);
        inwards.start();
        FileInputStream in = new FileInputStream(FileDescriptor.in);
        byte[] data = new byte[DATAGRAM];
        for (int size = in.read(data); size > 0; size = in.read(data)) {
            send(ByteBuffer.wrap(data, 0, size));
        }
    }

    public static void main(String[] arguments) throws Exception {
        List<String> chosen = Arrays.asList(arguments);
        char[] password = "transport".toCharArray();
        KeyStore store = KeyStore.getInstance(new java.io.File(arguments[2]), password);
        KeyManagerFactory keys = KeyManagerFactory.getInstance("PKIX");
        keys.init(store, password);
        SSLContext context = SSLContext.getInstance("DTLS");
        context.init(keys.getKeyManagers(), new TrustManager[] {new AnyCertificate()}, new SecureRandom());
        InetSocketAddress server = new InetSocketAddress(arguments[0], Integer.parseInt(arguments[1]));
        boolean small = chosen.contains("max-fragment=512");
        if (small) {
            System.setProperty("jsse.enableMFLNExtension", "true");
        }

        Jsse tunnel = new Jsse(context, server, small);
        tunnel.handshake();
        if (chosen.contains("resume")) {
            tunnel.close();
            tunnel = new Jsse(context, server, small);
            tunnel.handshake();
        }
        tunnel.carry();
        tunnel.close();
    }
}
