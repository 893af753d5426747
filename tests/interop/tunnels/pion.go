// DTLS client of pion: `pion-tunnel HOST PORT CERTIFICATE KEY`.
//
// Each read of standard input is a datagram to send, and each datagram received is one write to standard output.
// The end of the input ends it.
package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"os"

	"github.com/pion/dtls/v2"
)

const datagram = 16384

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func carry(read func([]byte) (int, error), write func([]byte) (int, error)) {
	data := make([]byte, datagram)
	for {
		size, err := read(data)
		if err != nil || size == 0 {
			return
		}
		_, err = write(data[:size])
		check(err)
	}
}

func main() {
	server, err := net.ResolveUDPAddr("udp", net.JoinHostPort(os.Args[1], os.Args[2]))
	check(err)
	certificate, err := tls.LoadX509KeyPair(os.Args[3], os.Args[4])
	check(err)
	connection, err := dtls.DialWithContext(context.Background(), "udp", server, &dtls.Config{
		Certificates:         []tls.Certificate{certificate},
		ExtendedMasterSecret: dtls.RequireExtendedMasterSecret,
		// No certificate authority signs the device's key.
		InsecureSkipVerify: true,
	})
	check(err)
	fmt.Fprintln(os.Stderr, "connected")
	go carry(connection.Read, os.Stdout.Write)
	carry(os.Stdin.Read, connection.Write)
	connection.Close()
}
