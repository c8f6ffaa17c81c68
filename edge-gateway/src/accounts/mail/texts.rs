//! What mails say, in the languages of the app.

use isthmus_protocol::accounts::MailPurpose;

/// What stands before and after a link.
#[derive(Debug, Clone, Copy)]
pub(super) struct Text {
    pub(super) subject: &'static str,
    pub(super) before: &'static str,
    pub(super) after: &'static str,
}

/// In the language `locale`; in English where there is no other.
pub(super) fn text(purpose: MailPurpose, locale: &str) -> Text {
    match (purpose, locale) {
        (MailPurpose::Verify, "es") => Text {
            subject: "Confirma tu correo electrónico",
            before: "confirma con este enlace que esta dirección es tuya:",
            after: "El enlace vale un día. Si no has creado ninguna cuenta, no hagas nada.",
        },
        (MailPurpose::Verify, "de") => Text {
            subject: "E-Mail-Adresse bestätigen",
            before: "bitte bestätige mit diesem Link, dass diese Adresse dir gehört:",
            after: "Der Link gilt einen Tag. Hast du kein Konto eröffnet, so musst du nichts tun.",
        },
        (MailPurpose::Verify, "fr") => Text {
            subject: "Confirmez votre adresse e-mail",
            before: "confirmez avec ce lien que cette adresse est la vôtre :",
            after: "Le lien est valable un jour. Si vous n'avez pas créé de compte, ne faites rien.",
        },
        (MailPurpose::Verify, "it") => Text {
            subject: "Conferma il tuo indirizzo e-mail",
            before: "conferma con questo link che questo indirizzo è tuo:",
            after: "Il link vale un giorno. Se non hai creato un account, non fare nulla.",
        },
        (MailPurpose::Verify, "zh-Hans") => Text {
            subject: "确认你的电子邮件地址",
            before: "请通过此链接确认这个地址属于你：",
            after: "链接一天内有效。如果你没有创建账户，请忽略此邮件。",
        },
        (MailPurpose::Verify, "ms") => Text {
            subject: "Sahkan alamat e-mel anda",
            before: "sahkan dengan pautan ini bahawa alamat ini milik anda:",
            after: "Pautan ini sah selama sehari. Jika anda tidak membuka akaun, abaikan e-mel ini.",
        },
        (MailPurpose::Verify, "ta") => Text {
            subject: "உங்கள் மின்னஞ்சல் முகவரியை உறுதிப்படுத்துங்கள்",
            before: "இந்த முகவரி உங்களுடையது என்பதை இந்த இணைப்பின் மூலம் உறுதிப்படுத்துங்கள்:",
            after: "இணைப்பு ஒரு நாள் செல்லும். நீங்கள் கணக்கு தொடங்கவில்லை என்றால் எதுவும் செய்ய வேண்டாம்.",
        },
        (MailPurpose::Verify, _) => Text {
            subject: "Confirm your e-mail address",
            before: "confirm with this link that this address is yours:",
            after: "The link is good for a day. If you have not created an account, do nothing.",
        },
        (MailPurpose::Reset, "es") => Text {
            subject: "Elige una contraseña nueva",
            before: "con este enlace puedes elegir una contraseña nueva:",
            after: "El enlace vale una hora y una sola vez. Si no lo has pedido, no hagas nada: tu contraseña sigue siendo la misma.",
        },
        (MailPurpose::Reset, "de") => Text {
            subject: "Neues Passwort wählen",
            before: "mit diesem Link kannst du ein neues Passwort wählen:",
            after: "Der Link gilt eine Stunde und einmal. Hast du nicht darum gebeten, so musst du nichts tun: dein Passwort bleibt, wie es ist.",
        },
        (MailPurpose::Reset, "fr") => Text {
            subject: "Choisissez un nouveau mot de passe",
            before: "ce lien vous permet de choisir un nouveau mot de passe :",
            after: "Le lien est valable une heure et une seule fois. Si vous ne l'avez pas demandé, ne faites rien : votre mot de passe reste le même.",
        },
        (MailPurpose::Reset, "it") => Text {
            subject: "Scegli una nuova password",
            before: "con questo link puoi scegliere una nuova password:",
            after: "Il link vale un'ora e una volta sola. Se non l'hai chiesto, non fare nulla: la tua password resta la stessa.",
        },
        (MailPurpose::Reset, "zh-Hans") => Text {
            subject: "设置新密码",
            before: "通过此链接可以设置新密码：",
            after: "链接一小时内有效，且只能使用一次。如果不是你请求的，请忽略此邮件：你的密码保持不变。",
        },
        (MailPurpose::Reset, "ms") => Text {
            subject: "Pilih kata laluan baharu",
            before: "dengan pautan ini anda boleh memilih kata laluan baharu:",
            after: "Pautan ini sah selama sejam dan sekali sahaja. Jika anda tidak memintanya, abaikan e-mel ini: kata laluan anda tidak berubah.",
        },
        (MailPurpose::Reset, "ta") => Text {
            subject: "புதிய கடவுச்சொல்லைத் தேர்ந்தெடுங்கள்",
            before: "இந்த இணைப்பின் மூலம் புதிய கடவுச்சொல்லைத் தேர்ந்தெடுக்கலாம்:",
            after: "இணைப்பு ஒரு மணி நேரம், ஒரு முறை மட்டும் செல்லும். நீங்கள் கேட்கவில்லை என்றால் எதுவும் செய்ய வேண்டாம்: உங்கள் கடவுச்சொல் மாறாது.",
        },
        (MailPurpose::Reset, _) => Text {
            subject: "Choose a new password",
            before: "with this link you can choose a new password:",
            after: "The link is good for an hour, and once. If you have not asked for it, do nothing: your password stays as it is.",
        },
    }
}
