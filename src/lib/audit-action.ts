import { OneOf } from './schemas.ts'

/** What was done to a row, a read that is audited, or what was done at the door (0009_security_log.sql). */
export const AuditAction = OneOf([
  'insert',
  'update',
  'delete',
  'read',
  'logged_in',
  'logged_out',
  'tenant_switched',
  'session_ended',
  'refresh_reused',
  'password_changed',
  'password_reset',
  'email_changed',
  'email_verified',
  'mfa_enabled',
  'mfa_disabled',
  'recovery_code_used',
  'recovery_codes_replaced',
  'person_deactivated',
  'person_activated',
  'mfa_forgotten',
])
