import { readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'

const LIB = path.join(__dirname, '../lib')
/** An error that users see, and the beginning of its message. */
const ERROR = /new (?:SseError\((?:'[A-Z_]+'|code), |TypeError\(|RangeError\()\s*([`'])([^]{0,60})/g
/** Names of classes, functions and callbacks, or one that the caller gives. */
const SUBJECT = /^(?:\$\{where(?:\(\))?\}|\$\{name\}|[A-Z]\w+: |[a-z]\w*: |(?:filter|snapshot|publish|validate) )/

const files = readdirSync(LIB, { recursive: true, encoding: 'utf8' }).filter((file) => file.endsWith('.ts'))
const messages = files.flatMap((file) =>
  [...readFileSync(path.join(LIB, file), 'utf8').matchAll(ERROR)].map(([, , text]) => ({ file, text: text as string })),
)

describe('the message of every error', () => {
  it('begins with the class or function that it is about', () => {
    expect(messages.length).toBeGreaterThan(60)
    expect(messages.filter(({ text }) => !SUBJECT.test(text))).toEqual([])
  })

  it('is given the name of its class or function where an option is checked', () => {
    const checks = files.flatMap((file) =>
      [
        ...readFileSync(path.join(LIB, file), 'utf8').matchAll(
          /\bcheck(?:Integer|Duration|Boolean|Function|Owner|Key|Time|Limit)\(([`'][^`']*[`'])/g,
        ),
      ].map(([, name]) => ({ file, name: name as string })),
    )
    expect(checks.length).toBeGreaterThan(25)
    expect(checks.filter(({ name }) => !/^.(?:[A-Za-z]+: |\$\{name\})/.test(name))).toEqual([])
  })
})
