import assert from 'node:assert/strict';
import test from 'node:test';
import { readUntil, world } from './world.ts';

const create = 'POST /containers/create';
const exec = 'POST /containers/web/exec';
const json = { 'Content-Type': 'application/json' };

/** The answers of both sides of ceiling 1.42 to one body. */
function both(title: string, target: string, call: object, [old, now]: [string, string]): void {
  test(title, async (t) => {
    for (const [ceiling, expected] of [
      ['1.41', old],
      ['1.42', now],
      ['1.45', now],
    ] as const) {
      const w = await world(t, { ceiling });
      const answer = await w.call(target, call);
      const message = (answer.json as { message?: string }).message ?? '';
      assert.equal(`${answer.status} ${message}`.trim(), expected, `ceiling ${ceiling}`);
    }
  });
}

both('G070: an empty body is an empty object, and validation speaks', exec, {}, [
  '400 got EOF while reading request body',
  '400 No exec command specified',
]);
both(
  'G070: an empty body in chunks is none',
  exec,
  { headers: { ...json, 'Transfer-Encoding': 'chunked' } },
  ['400 got EOF while reading request body', '400 invalid JSON: got EOF while reading request body'],
);
both('G071: truncated JSON', exec, { body: '{"Cmd":["a"' }, [
  '400 unexpected EOF',
  '400 invalid JSON: unexpected EOF',
]);
both('G071: what is no JSON', exec, { body: 'zz' }, [
  "400 invalid character 'z' looking for beginning of value",
  "400 invalid JSON: invalid character 'z' looking for beginning of value",
]);
both('G071: a value of a wrong type', exec, { body: '{"Tty":1}' }, [
  '400 json: cannot unmarshal number into Go struct field ExecConfig.Tty of type bool',
  '400 invalid JSON: json: cannot unmarshal number into Go struct field ExecConfig.Tty of type bool',
]);
both('G072: create without a body', create, {}, [
  '500 EOF',
  '400 invalid JSON: got EOF while reading request body',
]);
both('G072: create with truncated JSON', create, { body: '{' }, [
  '500 unexpected EOF',
  '400 invalid JSON: unexpected EOF',
]);
both('G072: create with a wrong type', create, { body: '{"Image":5}' }, [
  '500 json: cannot unmarshal number into Go struct field ContainerConfigWrapper.Image of type string',
  '400 invalid JSON: json: cannot unmarshal number into Go struct field ContainerConfigWrapper.Image of type string',
]);
both('G072: create with a list', create, { body: '[]' }, [
  '500 json: cannot unmarshal array into Go value of type runconfig.ContainerConfigWrapper',
  '400 invalid JSON: json: cannot unmarshal array into Go value of type runconfig.ContainerConfigWrapper',
]);
both(
  'G072: a wrong type deep inside names its way',
  create,
  {
    body: '{"Image":"x","HostConfig":{"PortBindings":{"80/tcp":[{"HostPort":80}]}}}',
  },
  [
    '500 json: cannot unmarshal number into Go struct field PortBinding.HostConfig.PortBindings.HostPort of type string',
    '400 invalid JSON: json: cannot unmarshal number into Go struct field PortBinding.HostConfig.PortBindings.HostPort of type string',
  ],
);
both('G073: what follows the JSON', exec, { body: '{"Cmd":["a"]} {"x":1}' }, [
  '201',
  '400 unexpected content after JSON',
]);
both('G073: white space may follow', exec, { body: '{"Cmd":["a"]}\n \t' }, ['201', '201']);
both('G073: create, too', create, { body: '{"Image":"x"} zz' }, ['201', '400 unexpected content after JSON']);
both('G074: another content type', exec, { headers: { 'Content-Type': 'text/plain' }, body: '{}' }, [
  "400 Content-Type specified (text/plain) must be 'application/json'",
  "400 unsupported Content-Type header (text/plain): must be 'application/json'",
]);
both('G074: a content type that is none', exec, { headers: { 'Content-Type': '///' }, body: '{}' }, [
  "400 Content-Type specified (///) must be 'application/json'",
  '400 malformed Content-Type header (///): mime: no media type',
]);
both('G074: a body without a content type', exec, { headers: { 'Content-Type': '' }, body: '{}' }, [
  "400 Content-Type specified () must be 'application/json'",
  '400 malformed Content-Type header (): mime: no media type',
]);
both(
  'parameters of the content type are fine',
  exec,
  { headers: { 'Content-Type': 'application/json; charset=utf-8' }, body: '{"Cmd":["a"]}' },
  ['201', '201'],
);

test('G114: a configuration without any known key is empty', async (t) => {
  for (const [ceiling, message] of [
    ['1.43', 'Config cannot be empty in order to create a container'],
    ['1.44', 'config cannot be empty in order to create a container'],
  ] as const) {
    const w = await world(t, { ceiling });
    for (const body of ['{}', 'null', '{"HostConfig":{}}', '{"Nonsense":1}']) {
      const answer = await w.call(create, { body });
      assert.equal(answer.status, 400);
      assert.deepEqual(answer.json, { message });
    }
  }
});

test('keys match in any case, unknown ones are ignored, the last of several wins', async (t) => {
  let image: string | undefined;
  const w = await world(t, {
    engine: {
      containers: {
        create: async ({ config }) => {
          image = config.image;
          return { id: 'x', warnings: [] };
        },
      },
    },
  });
  await w.call(create, { body: '{"IMAGE":"a","image":"b","Nonsense":{"deep":[1]}}' });
  assert.equal(image, 'b');
});

test('a body of more than 16 MiB is refused, and the connection ends', async (t) => {
  const w = await world(t);
  const socket = await w.connect();
  socket.write(
    'POST /containers/create HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\nContent-Length: 16777217\r\n\r\n',
  );
  const head = await readUntil(socket, '\r\n\r\n');
  assert.match(head, /^HTTP\/1\.1 413 /);
  assert.match(head, /\r\nConnection: close\r\n/);
  socket.destroy();
  const chunk = `100000\r\n${' '.repeat(0x100000)}\r\n`;
  const answer = await w.raw(
    `POST /containers/create HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n${chunk.repeat(17)}`,
  );
  assert.match(answer, /^HTTP\/1\.1 413 /);
});

test('100 Continue is sent when the body is read, and not before a refusal', async (t) => {
  const w = await world(t);
  const ask = (path: string, body: string) =>
    `POST ${path} HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\nExpect: 100-continue\r\nContent-Length: ${body.length}\r\n\r\n`;
  for (const [path, body, status] of [
    ['/containers/web/exec', '{"Cmd":["a"]}', '201 Created'],
    ['/exec/e1/start', '{"Detach":true}', '404 Not Found'],
  ] as const) {
    const socket = await w.connect();
    socket.write(ask(path, body));
    assert.equal(await readUntil(socket, '\r\n\r\n'), 'HTTP/1.1 100 Continue\r\n\r\n');
    socket.write(body);
    assert.ok((await readUntil(socket, '\r\n\r\n')).startsWith(`HTTP/1.1 ${status}\r\n`));
    socket.destroy();
  }
  const socket = await w.connect();
  socket.write(ask('/nothing', '{}'));
  assert.match(await readUntil(socket, '\r\n\r\n'), /^HTTP\/1\.1 404 /);
  socket.destroy();
});
