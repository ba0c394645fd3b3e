import { execFileSync } from 'node:child_process'
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'

const ROOT = path.join(__dirname, '..')
const TSC = path.join(ROOT, 'node_modules/.bin/tsc')
const USE_REDIS = `const { publishScript, RedisBackplane } = require('express-sse-hub/redis')
  console.log(typeof publishScript, typeof RedisBackplane)`

describe('the package in the project of a user', () => {
  let project = ''

  beforeAll(() => {
    project = mkdtempSync(path.join(tmpdir(), 'express-sse-hub-'))
    const installed = path.join(project, 'node_modules/express-sse-hub')
    mkdirSync(installed, { recursive: true })
    copyFileSync(path.join(ROOT, 'package.json'), path.join(installed, 'package.json'))
    execFileSync(TSC, ['-p', path.join(ROOT, 'lib/tsconfig.json'), '--outDir', path.join(installed, 'dist')])
    for (const name of ['express', '@types']) symlinkSync(path.join(ROOT, 'node_modules', name), path.join(project, 'node_modules', name))
    writeFileSync(path.join(project, 'package.json'), '{"type":"module"}')
  })

  afterAll(() => rmSync(project, { recursive: true, force: true }))

  const node = (file: string, code: string): string => {
    writeFileSync(path.join(project, file), code)
    return execFileSync(process.execPath, [file], { cwd: project, encoding: 'utf8' })
  }

  it('exports every public value to CommonJS', () => {
    const printed = node('use.cjs', `console.log(Object.keys(require('express-sse-hub')).sort().join())`)
    expect(printed.trim()).toBe('Hub,MemoryBackplane,SseError,channelOf,encodeEvent,sseMiddleware')
  })

  it('exports its names to an ES module', () => {
    const printed = node('use.mjs', `import { encodeEvent } from 'express-sse-hub'; process.stdout.write(encodeEvent({ data: 'hi' }))`)
    expect(printed).toBe('data: hi\n\n')
  })

  it('recognises the errors of another copy of itself', () => {
    const copy = path.join(project, 'node_modules/copy')
    mkdirSync(copy)
    execFileSync(TSC, ['-p', path.join(ROOT, 'lib/tsconfig.json'), '--outDir', copy])
    const printed = node(
      'copies.cjs',
      `const [a, b] = [require('express-sse-hub'), require('./node_modules/copy/index.js')]
       try { a.encodeEvent({ data: undefined }) } catch (error) {
         console.log(a.SseError !== b.SseError, error instanceof b.SseError, new Error('x') instanceof b.SseError)
       }`,
    )
    expect(printed.trim()).toBe('true true false')
  })

  const compile = (file: string): string =>
    execFileSync(
      TSC,
      [
        '--noEmit',
        '--strict',
        '--exactOptionalPropertyTypes',
        '--skipLibCheck',
        'false',
        '--module',
        'nodenext',
        '--target',
        'es2022',
        '--types',
        'node',
        file,
      ],
      {
        cwd: project,
        encoding: 'utf8',
      },
    )

  it('compiles the ten lines of the README with strict checks, of the library too', () => {
    const example = /## Ten lines\n+```ts\n([\s\S]*?)```/.exec(readFileSync(path.join(ROOT, 'README.md'), 'utf8'))?.[1]
    expect(example).toBeDefined()
    writeFileSync(path.join(project, 'example.ts'), example ?? '')
    expect(compile('example.ts')).toBe('')
    writeFileSync(path.join(project, 'example.ts'), (example ?? '').replace("'created'", "'creatd'"))
    expect(() => compile('example.ts')).toThrow(/Command failed/)
  })

  it('needs ioredis only for its Redis entry', () => {
    const use = (): string => node('redis.cjs', USE_REDIS)
    expect(use).toThrow(/Cannot find module 'ioredis'/)
    // The types of the Redis entry do not need ioredis.
    writeFileSync(
      path.join(project, 'url.ts'),
      `import { RedisBackplane } from 'express-sse-hub/redis'\n new RedisBackplane({ url: 'redis://127.0.0.1' })`,
    )
    expect(compile('url.ts')).toBe('')
  })

  it.each(['ioredis', 'ioredis5'])('works with %s as ioredis, and accepts its client', (version) => {
    const installed = path.join(project, 'node_modules/ioredis')
    rmSync(installed, { force: true })
    symlinkSync(path.join(ROOT, 'node_modules', version), installed)
    const printed = node('redis.cjs', USE_REDIS)
    expect(printed.trim()).toBe('string function')
    const program = `import { Hub } from 'express-sse-hub'
      import { RedisBackplane } from 'express-sse-hub/redis'
      import { Redis } from 'ioredis'
      new Hub({ backplane: new RedisBackplane({ client: new Redis() }, { prefix: 'x' }) })`
    writeFileSync(path.join(project, 'redis.ts'), program)
    expect(compile('redis.ts')).toBe('')
    writeFileSync(path.join(project, 'redis.ts'), program.replace('prefix', 'prefxi'))
    expect(() => compile('redis.ts')).toThrow(/Command failed/)
  })
})
