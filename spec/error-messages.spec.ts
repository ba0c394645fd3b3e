import { readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'

const LIB = path.join(__dirname, '../lib')
/** Matches the creation of an error that users see, and captures the beginning of its message. */
const ERROR = /new (?:SseError\(\s*(?:'[A-Z_]+'|code),\s*|TypeError\(\s*|RangeError\(\s*)[`'"](?=([^]{0,60}))/g
/** Matches the name of a class, function or callback, or a name that the caller passes. */
const SUBJECT = /^(?:\$\{where(?:\(\))?\}|\$\{name\}|[A-Z]\w+: |[a-z]\w*: |(?:filter|snapshot|publish|validate) )/

const files = readdirSync(LIB, { recursive: true, encoding: 'utf8' }).filter((file) => file.endsWith('.ts'))
const messages = files.flatMap((file) =>
  [...readFileSync(path.join(LIB, file), 'utf8').matchAll(ERROR)].map(([, text]) => ({ file, text: text as string })),
)

describe('the message of every error', () => {
  it('begins with the class or function that it is about', () => {
    expect(messages.length).toBeGreaterThan(75)
    expect(messages.filter(({ text }) => !SUBJECT.test(text))).toEqual([])
  })

  it('begins with the class or function if an option is checked', () => {
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
