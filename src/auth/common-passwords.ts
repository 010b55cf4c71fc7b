/**
 * Passwords of twelve characters and more that attackers try first, in lower case and without separators. Short ones need
 * no list: the length refuses them.
 */
export const commonPasswords: ReadonlySet<string> = new Set(
  `
  012345678910 0123456789ab 0987654321qwerty 1111111111aa 112233445566 1234512345aa 123456123456 123456654321
  123456789012 1234567890123 12345678901234 123456789012345 1234567890123456 1234567890ab 1234567890abc 1234567890qw
  1234567890qwe 1234567890qwerty 123456789101 1234567891011 123456789123 1234567891234 123456789abc 123456789qwe
  123456abcdef 123456qwerty 123qweasdzxc 147258369147 1q2w3e4r5t6y 1q2w3e4r5t6y7u 1q2w3e4r5t6y7u8i 1qaz2wsx3edc
  1qaz2wsx3edc4rfv 1qazxsw23edc 789456123000 987654321000 9876543210000 abc123456789 abc123abc123 abcd12345678
  abcdefghijkl abcdefghijklm abcdefghijklmnop abcdefghijklmnopqrstuvwxyz admin1234567 admin12345678 admin123456789
  adminadmin123 administrator administrator1 administrator123 asdf1234asdf asdfghjkl123 asdfghjkl1234
  asdfghjklqwertyuiop asdfghjklzxcvbnm babygirl1234 baseball1234 basketball12 basketball123 bismillah123 butterfly123
  changeme1234 changeme12345 changeme123456 chocolate123 correcthorsebattery default12345 football1234 football12345
  helloworld12 helloworld123 iloveyou1234 iloveyou12345 iloveyou123456 iloveyouforever iloveyousomuch internet1234
  letmein12345 letmein123456 letmeinplease liverpool123 login1234567 manchester123 master123456 michael12345
  monkey123456 mypassword12 mypassword123 newpassword1 newpassword12 newpassword123 p@ssw0rd1234 p@ssw0rd12345
  p@ssword1234 pa55word1234 passw0rd1234 passw0rd12345 passw0rd123456 password0000 password1111 password1212
  password123! password1234 password1234! password12345 password123456 password1234567 password12345678
  password123456789 password1234567890 password2020 password2021 password2022 password2023 password2024 password2025
  password2026 passwordpassword pokemon12345 princess1234 q1w2e3r4t5y6 q1w2e3r4t5y6u7 qazwsxedc123 qazwsxedcrfv
  qazwsxedcrfvtgb qqww1122qqww qwer1234qwer qwerasdfzxcv qwerty098765 qwerty112233 qwerty123321 qwerty123456
  qwerty1234567 qwerty12345678 qwerty123456789 qwerty654321 qwertyasdfgh qwertyqwerty qwertyuiop10 qwertyuiop12
  qwertyuiop123 qwertyuiop1234 qwertyuiop12345 qwertyuiop123456789 qwertyuiopas qwertyuiopasdf qwertyuiopasdfghjkl
  qwertyuiopasdfghjklzxcvbnm secret123456 secretpassword startrek1234 starwars1234 sunshine1234 superman1234
  superman12345 test12345678 testtest1234 thisisapassword thisismypassword trustno11234 unknownpassword user12345678
  welcome12345 welcome123456 welcome1234567 welcome2020! welcome2024! welcome2025! whatever1234 zaq12wsxcde3
  zaq1xsw2cde3 zxcvbnm12345 zxcvbnm123456 zxcvbnmasdfghjkl
  `
    .trim()
    .split(/\s+/),
)
