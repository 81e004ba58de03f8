// Package pull asks a JetStream consumer for messages.
//
// The library's way of doing that takes a stored message without a body that has a header
// Status, which whoever has stored it chooses, for the server's word about the request: such
// a message is never seen, comes back for ever, and keeps or ends whoever has asked.
//
// What it promises:
//
//   - Every message of the consumer's is returned, whatever its headers are. What the server
//     says itself has no reply subject, and each message has one.
//   - One request is under way at a time, so no more wait than it asks for.
package pull
