// Reads the chat stream the way the reference page's browser example does: every chunk is split into lines and parsed
// by itself, so an event that is cut over two chunks makes it fail.
const [url, token, body] = process.argv.slice(2);
const answer = await fetch(url, {
  method: "POST",
  headers: { Authorization: `Bearer ${token}`, "Content-Type": "application/json" },
  body,
});
const reader = answer.body.getReader();
const decoder = new TextDecoder();
const seen = { status: answer.status, events: [] };
let name = "";
for (;;) {
  const { done, value } = await reader.read();
  if (done) break;
  for (const line of decoder.decode(value).split("\n")) {
    if (line.startsWith("event: ")) name = line.slice(7);
    else if (line.startsWith("data: ")) seen.events.push([name, JSON.parse(line.slice(6))]);
  }
}
console.log(JSON.stringify(seen));
