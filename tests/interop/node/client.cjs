#!/usr/bin/env node
// A CoAP client (npm's `coap`) over DTLS (npm's `werift-dtls`):
// `npm-coap CERTIFICATE KEY METHOD URI [body=FILE] [out=FILE] [block=SIZE]`.
'use strict'
const { createSocket } = require('node:dgram')
const { EventEmitter } = require('node:events')
const { readFileSync, writeFileSync } = require('node:fs')
const coap = require('coap')
// The main file that werift-dtls 0.5.8 names in its package.json does not exist.
const { DtlsClient } = require('werift-dtls/lib/dtls/src/index.js')

const [certificate, key, method, uri, ...others] = process.argv.slice(2)
const options = Object.fromEntries(others.map((other) => other.split('=')))
const url = new URL(uri)
const peer = { address: url.hostname, port: Number(url.port), family: 'IPv4' }

/** UDP as werift-dtls expects it. */
class Transport {
  constructor () {
    this.socket = createSocket('udp4', (data) => this.onData(data, [peer.address, peer.port]))
    this.type = 'udp'
  }

  onData = () => {}
  send = async (data) => this.socket.send(data, peer.port, peer.address)
  close = async () => this.socket.close()
}

const dtls = new DtlsClient({
  transport: new Transport(),
  cert: readFileSync(certificate, 'utf8'),
  key: readFileSync(key, 'utf8'),
  signatureHash: { hash: 4, signature: 3 }, // SHA-256, ECDSA
  certificateRequest: true,
  extendedMasterSecret: true
})

/** The session as `coap` expects a socket. */
const socket = Object.assign(new EventEmitter(), {
  type: 'udp4',
  address: () => peer,
  send: (data, start, size, port, host, done) =>
    dtls.send(Buffer.from(data).subarray(start, start + size)).then(() => done && done(null, size), done)
})

dtls.onData.subscribe((data) => socket.emit('message', data, peer))
dtls.onError.subscribe((error) => { throw error })
dtls.onConnect.once(() => {
  const request = coap.request({
    agent: new coap.Agent({ socket }),
    hostname: peer.address,
    port: peer.port,
    method: method.toUpperCase(),
    pathname: url.pathname,
    query: url.search.slice(1)
  })
  if (options.block && options.body) {
    request.setOption('Block1', Buffer.of(Math.log2(options.block) - 4))
  }
  request.on('error', (error) => { throw error })
  request.on('response', (response) => {
    console.log(response.code)
    if (options.out) {
      writeFileSync(options.out, response.payload)
    }
    console.log(String(response.payload))
    process.exit(0)
  })
  request.end(options.body && readFileSync(options.body))
})
dtls.connect()
