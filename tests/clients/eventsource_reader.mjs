// Reads a chat's events with the eventsource package until its turn has ended; the package comes back by itself when it
// is cut off. Arguments: the package's module, the URL. One JSON a line: id, SSE event name, type, data.
const [module, url] = process.argv.slice(2);
const { EventSource } = await import(module);
const source = new EventSource(url);
const awake = setInterval(() => {}, 60_000); // while the package waits to come back, nothing else keeps Node from ending
const end = (code) => {
  source.close();
  clearInterval(awake);
  process.exitCode = code;
};
source.addEventListener("message", (event) => {
  const seen = { id: event.lastEventId, event: event.type, ...JSON.parse(event.data) };
  console.log(JSON.stringify(seen));
  if (seen.type === "AGENT_EXECUTION_COMPLETED" || seen.type === "AGENT_EXECUTION_FAILED") end(0);
});
source.addEventListener("error", (error) => {
  if (source.readyState !== EventSource.CLOSED) return;
  console.error(`${error.code} ${error.message}`);
  end(1);
});
